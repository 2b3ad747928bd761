// What the ops that end in an activation share. For the files of engine/ops only.
#pragma once

#include "engine/tensor.h"

namespace stillpoint::ops {

// The gradient through an activation, from the gradient g of its output and the output y; one fused
// kernel, or composed from ops when it is to be differentiated itself.
Tensor relu_backward(const Tensor& g, const Tensor& y);
Tensor sigmoid_backward(const Tensor& g, const Tensor& y);
Tensor tanh_backward(const Tensor& g, const Tensor& y);

}  // namespace stillpoint::ops
