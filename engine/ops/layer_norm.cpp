#include "kernels/layer_norm/layer_norm.h"

#include <algorithm>

#include "engine/dispatch.h"
#include "engine/ops.h"
#include "kernels/layer_norm/layer_norm_reference.h"

namespace stillpoint::ops {
namespace {

template <class T>
const T* data_or_null(const Tensor& t) {
  return t ? t.data<T>() : nullptr;
}

// What the forward saves of every row.
struct Saved {
  Tensor mean, r;
};

void check_inputs(const Tensor& x, const Tensor& weight, const Tensor& bias, double epsilon) {
  check_floating(x, "layer_norm", "x");
  check<ShapeError>(x.rank() >= 1, "layer_norm: x has shape [], wanted [..., channels]");
  for (const auto& [t, what] : {std::pair(weight, "weight"), std::pair(bias, "bias")}) {
    if (!t) continue;
    check_like(t, x, "layer_norm", what);
    check_shape(t, {x.dim(-1)}, "layer_norm", what);
  }
  check<OptionError>(epsilon >= 0, "layer_norm: epsilon is {}, wanted 0 or more", epsilon);
}

Gradients fused_backward(const Tensor& g, const Tensor& x, const Tensor& weight, const Tensor& bias,
                         const Saved& saved) {
  const int64_t rows = rows_of(x);
  Tensor dx = Tensor::empty(x.shape(), x.options());
  Tensor dw_groups, db_groups;
  if (weight.requires_grad() || bias.requires_grad())
    for (Tensor* groups : {&dw_groups, &db_groups})
      *groups = Tensor::empty({kernels::layer_norm_groups(rows), x.dim(-1)}, x.options());
  STILLPOINT_DISPATCH(layer_norm_backward, x, ([&]<class T>() {
                        return kernels::LayerNormBackwardArgs<T>{
                            .x = x.data<T>(),
                            .weight = data_or_null<T>(weight),
                            .mean = saved.mean.data<T>(),
                            .r = saved.r.data<T>(),
                            .g = g.data<T>(),
                            .dx = dx.mutable_data<T>(),
                            .dw_groups = dw_groups ? dw_groups.mutable_data<T>() : nullptr,
                            .db_groups = db_groups ? db_groups.mutable_data<T>() : nullptr,
                            .rows = rows,
                            .channels = x.dim(-1)};
                      }));
  return {dx, weight.requires_grad() ? sum(dw_groups, 0) : Tensor(),
          bias.requires_grad() ? sum(db_groups, 0) : Tensor()};
}

// The same from ops, for second derivatives.
Gradients composed_backward(const Tensor& g, const Tensor& x, const Tensor& weight,
                            const Tensor& bias, double epsilon) {
  const double share = 1.0 / static_cast<double>(std::max<int64_t>(1, x.dim(-1)));
  const auto row_mean = [share](const Tensor& t) {
    return affine(sum(t, -1, KeepDim::yes), share);
  };
  const Tensor centred = sub(x, row_mean(x));
  const Tensor r = rsqrt(affine(row_mean(square(centred)), 1.0, epsilon));
  const Tensor y = mul(centred, r);
  const Tensor gw = weight ? mul(g, weight) : g;
  const Tensor dx = mul(sub(sub(gw, row_mean(gw)), mul(y, row_mean(mul(gw, y)))), r);
  return {dx, weight ? sum_to(mul(g, y), weight.shape()) : Tensor(),
          bias ? sum_to(g, bias.shape()) : Tensor()};
}

}  // namespace

Tensor layer_norm(const Tensor& x, const Tensor& weight, const Tensor& bias,
                  LayerNormOptions options) {
  check_inputs(x, weight, bias, options.epsilon);
  const int64_t rows = rows_of(x);
  Tensor out = Tensor::empty(x.shape(), x.options());
  Saved saved{Tensor::empty({rows}, x.options()), Tensor::empty({rows}, x.options())};
  STILLPOINT_DISPATCH(layer_norm, x, ([&]<class T>() {
                        return kernels::LayerNormArgs<T>{.x = x.data<T>(),
                                                         .weight = data_or_null<T>(weight),
                                                         .bias = data_or_null<T>(bias),
                                                         .out = out.mutable_data<T>(),
                                                         .mean = saved.mean.mutable_data<T>(),
                                                         .r = saved.r.mutable_data<T>(),
                                                         .rows = rows,
                                                         .channels = x.dim(-1),
                                                         .epsilon = options.epsilon};
                      }));
  return record("layer_norm", {x, weight, bias}, out,
                [x, weight, bias, saved, epsilon = options.epsilon](const Tensor& g) {
                  return grad_enabled() ? composed_backward(g, x, weight, bias, epsilon)
                                        : fused_backward(g, x, weight, bias, saved);
                });
}

}  // namespace stillpoint::ops
