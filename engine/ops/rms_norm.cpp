#include "kernels/rms_norm/rms_norm.h"

#include <algorithm>

#include "engine/dispatch.h"
#include "engine/ops.h"
#include "kernels/rms_norm/rms_norm_reference.h"

namespace stillpoint::ops {
namespace {

template <class T>
const T* data_or_null(const Tensor& t) {
  return t ? t.data<T>() : nullptr;
}

void check_inputs(const Tensor& x, const Tensor& weight, const Tensor& residual, double epsilon) {
  check_floating(x, "rms_norm", "x");
  check<ShapeError>(x.rank() >= 1, "rms_norm: x has shape [], wanted [..., channels]");
  if (weight) {
    check_like(weight, x, "rms_norm", "weight");
    check_shape(weight, {x.dim(-1)}, "rms_norm", "weight");
  }
  if (residual) {
    check_like(residual, x, "rms_norm", "residual");
    check_shape(residual, x.shape(), "rms_norm", "residual");
  }
  check<OptionError>(epsilon >= 0, "rms_norm: epsilon is {}, wanted 0 or more", epsilon);
}

Gradients fused_backward(const Tensor& g, const Tensor& x, const Tensor& weight,
                         const Tensor& residual, const Tensor& r) {
  const int64_t rows = rows_of(x);
  Tensor dx = Tensor::empty(x.shape(), x.options());
  Tensor dw_groups;
  if (weight.requires_grad())
    dw_groups = Tensor::empty({kernels::rms_norm_groups(rows), x.dim(-1)}, x.options());
  STILLPOINT_DISPATCH(rms_norm_backward, x, ([&]<class T>() {
                        return kernels::RmsNormBackwardArgs<T>{
                            .x = x.data<T>(),
                            .residual = data_or_null<T>(residual),
                            .weight = data_or_null<T>(weight),
                            .r = r.data<T>(),
                            .g = g.data<T>(),
                            .dx = dx.mutable_data<T>(),
                            .dw_groups = dw_groups ? dw_groups.mutable_data<T>() : nullptr,
                            .rows = rows,
                            .channels = x.dim(-1)};
                      }));
  return {dx, dw_groups ? sum(dw_groups, 0) : Tensor(), dx};
}

// The same from ops, for second derivatives.
Gradients composed_backward(const Tensor& g, const Tensor& x, const Tensor& weight,
                            const Tensor& residual, double epsilon) {
  const Tensor s = residual ? add(x, residual) : x;
  const double share = 1.0 / static_cast<double>(std::max<int64_t>(1, x.dim(-1)));
  const Tensor r = rsqrt(affine(sum(square(s), -1, KeepDim::yes), share, epsilon));
  const Tensor gw = weight ? mul(g, weight) : g;
  const Tensor pull = mul(square(r), affine(sum(mul(gw, s), -1, KeepDim::yes), share));
  const Tensor dx = mul(sub(gw, mul(s, pull)), r);
  return {dx, weight ? sum_to(mul(g, mul(s, r)), weight.shape()) : Tensor(), dx};
}

}  // namespace

Tensor rms_norm(const Tensor& x, const Tensor& weight, const Tensor& residual,
                RmsNormOptions options) {
  check_inputs(x, weight, residual, options.epsilon);
  const int64_t rows = rows_of(x);
  Tensor out = Tensor::empty(x.shape(), x.options());
  Tensor r = Tensor::empty({rows}, x.options());
  STILLPOINT_DISPATCH(rms_norm, x, ([&]<class T>() {
                        return kernels::RmsNormArgs<T>{.x = x.data<T>(),
                                                       .residual = data_or_null<T>(residual),
                                                       .weight = data_or_null<T>(weight),
                                                       .out = out.mutable_data<T>(),
                                                       .r = r.mutable_data<T>(),
                                                       .rows = rows,
                                                       .channels = x.dim(-1),
                                                       .epsilon = options.epsilon};
                      }));
  return record("rms_norm", {x, weight, residual}, out,
                [x, weight, residual, r, epsilon = options.epsilon](const Tensor& g) {
                  return grad_enabled() ? composed_backward(g, x, weight, residual, epsilon)
                                        : fused_backward(g, x, weight, residual, r);
                });
}

}  // namespace stillpoint::ops
