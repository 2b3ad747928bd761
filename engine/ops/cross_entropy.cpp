#include "kernels/cross_entropy/cross_entropy.h"

#include <algorithm>
#include <limits>

#include "engine/dispatch.h"
#include "engine/ops.h"
#include "engine/ops/activation.h"
#include "kernels/cross_entropy/cross_entropy_reference.h"

namespace stillpoint::ops {
namespace {

// What the forward leaves for the backward besides the logits.
struct Saved {
  Tensor targets, log_sum, scale;
};

Tensor fused_backward(const Tensor& g, const Tensor& logits, const Saved& saved) {
  Tensor dx = Tensor::empty(logits.shape(), logits.options());
  STILLPOINT_DISPATCH(cross_entropy_backward, logits, ([&]<class T>() {
                        return kernels::CrossEntropyBackwardArgs<T>{
                            .x = logits.data<T>(),
                            .targets = saved.targets.data<int32_t>(),
                            .log_sum = saved.log_sum.data<T>(),
                            .scale = saved.scale.data<T>(),
                            .g = g.data<T>(),
                            .dx = dx.mutable_data<T>(),
                            .rows = rows_of(logits),
                            .channels = logits.dim(-1)};
                      }));
  return dx;
}

// g scale (softmax(logits) - onehot) from ops, for second derivatives. The backward kernel itself
// gives the constants: with log_sum = inf all probabilities are 0, and what is left is -scale
// onehot, 0 in rows left out, NaN where log_sum is NaN.
Tensor composed_backward(const Tensor& g, const Tensor& logits, const Saved& saved) {
  const double infinity = std::numeric_limits<double>::infinity();
  Saved certain = saved;
  certain.log_sum = affine(saved.log_sum, 1.0, infinity);
  const Tensor one = Tensor::full({}, 1.0, logits.options());
  const Tensor onehot =
      neg(fused_backward(one, Tensor::zeros(logits.shape(), logits.options()), certain));
  const Tensor weight = sum(onehot, -1, KeepDim::yes);  // scale, or 0 for rows left out
  // Rows left out may hold anything: they count as zeros.
  const Tensor kept = relu_backward(logits, weight);
  return mul(sub(mul(softmax(kept), weight), onehot), g);
}

void check_targets(const Tensor& logits, const Tensor& targets) {
  check_floating(logits, "cross_entropy", "logits");
  check_dtype(targets, DType::i32, "cross_entropy", "targets");
  check<TypeError>(targets.device() == logits.device(),
                   "cross_entropy: targets are on {}, logits on {}", name(targets.device()),
                   name(logits.device()));
  check<ShapeError>(logits.rank() >= 1,
                    "cross_entropy: logits have shape [], wanted [..., classes]");
  Shape wanted = logits.shape();
  wanted.pop_back();
  check_shape(targets, wanted, "cross_entropy", "targets");
  if (targets.device() != Device::cpu || targets.numel() == 0) return;
  const int32_t* t = targets.data<int32_t>();
  const int32_t largest = *std::max_element(t, t + targets.numel());
  check<OptionError>(largest < logits.dim(-1),
                     "cross_entropy: a target is {}, wanted less than {} classes", largest,
                     logits.dim(-1));
}

}  // namespace

Tensor cross_entropy(const Tensor& logits, const Tensor& targets) {
  check_targets(logits, targets);
  const TensorOptions options = logits.options();
  const int64_t rows = rows_of(logits);
  Saved saved{targets, Tensor::empty(targets.shape(), options), Tensor::empty({}, options)};
  Tensor loss = Tensor::empty({}, options);
  Tensor workspace = Tensor::empty({kernels::cross_entropy_workspace(rows)}, options);
  STILLPOINT_DISPATCH(cross_entropy, logits, ([&]<class T>() {
                        return kernels::CrossEntropyArgs<T>{
                            .x = logits.data<T>(),
                            .targets = targets.data<int32_t>(),
                            .log_sum = saved.log_sum.mutable_data<T>(),
                            .scale = saved.scale.mutable_data<T>(),
                            .loss = loss.mutable_data<T>(),
                            .workspace = workspace.mutable_data<T>(),
                            .rows = rows,
                            .channels = logits.dim(-1)};
                      }));
  return record("cross_entropy", {logits}, loss, [logits, saved](const Tensor& g) -> Gradients {
    return {grad_enabled() ? composed_backward(g, logits, saved)
                           : fused_backward(g, logits, saved)};
  });
}

namespace {

Tensor softmax_backward(const Tensor& g, const Tensor& y) {
  Tensor dx = Tensor::empty(y.shape(), y.options());
  STILLPOINT_DISPATCH(softmax_backward, y, ([&]<class T>() {
                        return kernels::SoftmaxBackwardArgs<T>{.y = y.data<T>(),
                                                               .g = g.data<T>(),
                                                               .dx = dx.mutable_data<T>(),
                                                               .rows = rows_of(y),
                                                               .channels = y.dim(-1)};
                      }));
  return dx;
}

}  // namespace

Tensor softmax(const Tensor& x) {
  check_floating(x, "softmax", "x");
  check<ShapeError>(x.rank() >= 1, "softmax: x has shape [], wanted [..., classes]");
  Tensor y = Tensor::empty(x.shape(), x.options());
  STILLPOINT_DISPATCH(softmax, x, ([&]<class T>() {
                        return kernels::SoftmaxArgs<T>{.x = x.data<T>(),
                                                       .out = y.mutable_data<T>(),
                                                       .rows = rows_of(x),
                                                       .channels = x.dim(-1)};
                      }));
  return record("softmax", {x}, y, [](const Tensor& g, const Tensor& out) -> Gradients {
    if (!grad_enabled()) return {softmax_backward(g, out)};
    return {mul(out, sub(g, sum(mul(g, out), -1, KeepDim::yes)))};
  });
}

}  // namespace stillpoint::ops
