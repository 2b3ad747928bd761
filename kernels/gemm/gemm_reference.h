// gemm by its formula. In double it is the truth that the tests hold the backends to.
#pragma once

#include <cstdint>

#include "kernels/elementwise/functions.h"
#include "kernels/gemm/gemm.h"

namespace stillpoint::kernels {

// An activation of one number, on the host or in a CUDA kernel.
template <class T>
STILLPOINT_HD inline T activate(Activation activation, T x) {
  if (activation == Activation::relu) return scalar::zero_if_negative(x);
  if (activation == Activation::sigmoid) return scalar::logistic(x);
  if (activation == Activation::tanh) return scalar::hyperbolic_tangent(x);
  return x;
}

namespace reference {

template <class T>
void gemm(const GemmArgs<T>& args) {
  for (int64_t i = 0; i < args.m; ++i)
    for (int64_t j = 0; j < args.n; ++j) {
      T sum = 0;
      for (int64_t l = 0; l < args.k; ++l)
        sum += args.a[args.transpose_a ? l * args.m + i : i * args.k + l] *
               args.b[args.transpose_b ? j * args.k + l : l * args.n + j];
      if (args.bias != nullptr) sum += args.bias[j];
      args.out[i * args.n + j] = activate(args.activation, sum);
    }
}

}  // namespace reference
}  // namespace stillpoint::kernels
