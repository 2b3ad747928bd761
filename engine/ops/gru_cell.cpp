#include "kernels/gru_cell/gru_cell.h"

#include "engine/dispatch.h"
#include "engine/ops.h"
#include "kernels/gru_cell/gru_cell_reference.h"

namespace stillpoint::ops {
namespace {

void check_inputs(const Tensor& x_gates, const Tensor& h_gates, const Tensor& h) {
  check_floating(h, "gru_cell", "h");
  check_like(x_gates, h, "gru_cell", "x_gates");
  check_like(h_gates, h, "gru_cell", "h_gates");
  check<ShapeError>(h.rank() >= 1, "gru_cell: h has shape [], wanted [..., channels]");
  Shape wanted = h.shape();
  wanted.back() *= 3;
  check_shape(x_gates, wanted, "gru_cell", "x_gates");
  check_shape(h_gates, wanted, "gru_cell", "h_gates");
}

// {dx_gates, dh_gates, dh} in one kernel.
Gradients fused_backward(const Tensor& g, const Tensor& x_gates, const Tensor& h_gates,
                         const Tensor& h) {
  Tensor dx_gates = Tensor::empty(x_gates.shape(), h.options());
  Tensor dh_gates = Tensor::empty(h_gates.shape(), h.options());
  Tensor dh = Tensor::empty(h.shape(), h.options());
  STILLPOINT_DISPATCH(gru_cell_backward, h, ([&]<class T>() {
                        return kernels::GruCellBackwardArgs<T>{
                            .x_gates = x_gates.data<T>(),
                            .h_gates = h_gates.data<T>(),
                            .h = h.data<T>(),
                            .g = g.data<T>(),
                            .dx_gates = dx_gates.mutable_data<T>(),
                            .dh_gates = dh_gates.mutable_data<T>(),
                            .dh = dh.mutable_data<T>(),
                            .rows = rows_of(h),
                            .channels = h.dim(-1)};
                      }));
  return {dx_gates, dh_gates, dh};
}

// The same from ops, for second derivatives.
Gradients composed_backward(const Tensor& g, const Tensor& x_gates, const Tensor& h_gates,
                            const Tensor& h) {
  const int64_t c = h.dim(-1);
  const auto part = [c](const Tensor& gates, int k) { return columns(gates, k * c, c); };
  const auto one_minus = [](const Tensor& t) { return affine(t, -1.0, 1.0); };
  const Tensor candidate = part(h_gates, 2);
  const Tensor r = sigmoid(add(part(x_gates, 0), part(h_gates, 0)));
  const Tensor z = sigmoid(add(part(x_gates, 1), part(h_gates, 1)));
  const Tensor n = tanh(add(part(x_gates, 2), mul(r, candidate)));

  const Tensor an = mul(mul(g, one_minus(z)), one_minus(square(n)));
  const Tensor ar = mul(mul(an, candidate), mul(r, one_minus(r)));
  const Tensor az = mul(mul(g, sub(h, n)), mul(z, one_minus(z)));
  return {concat({ar, az, an}), concat({ar, az, mul(an, r)}), mul(g, z)};
}

}  // namespace

Tensor gru_cell(const Tensor& x_gates, const Tensor& h_gates, const Tensor& h) {
  check_inputs(x_gates, h_gates, h);
  Tensor out = Tensor::empty(h.shape(), h.options());
  STILLPOINT_DISPATCH(gru_cell, h, ([&]<class T>() {
                        return kernels::GruCellArgs<T>{.x_gates = x_gates.data<T>(),
                                                       .h_gates = h_gates.data<T>(),
                                                       .h = h.data<T>(),
                                                       .out = out.mutable_data<T>(),
                                                       .rows = rows_of(h),
                                                       .channels = h.dim(-1)};
                      }));
  return record("gru_cell", {x_gates, h_gates, h}, out, [=](const Tensor& g) {
    return grad_enabled() ? composed_backward(g, x_gates, h_gates, h)
                          : fused_backward(g, x_gates, h_gates, h);
  });
}

}  // namespace stillpoint::ops
