#include "kernels/elementwise/elementwise.h"

#include "engine/broadcast.h"
#include "engine/dispatch.h"
#include "engine/ops.h"
#include "engine/ops/activation.h"
#include "kernels/elementwise/elementwise_reference.h"

namespace stillpoint::ops {
namespace {

using kernels::BinaryFunction;
using kernels::UnaryFunction;

Tensor run_unary(const char* op, UnaryFunction function, const Tensor& x, double p = 0,
                 double q = 0) {
  check_floating(x, op, "x");
  Tensor out = Tensor::empty(x.shape(), x.options());
  STILLPOINT_DISPATCH(unary, x, ([&]<class T>() {
                        return kernels::UnaryArgs<T>{.function = function,
                                                     .x = x.data<T>(),
                                                     .out = out.mutable_data<T>(),
                                                     .n = x.numel(),
                                                     .p = static_cast<T>(p),
                                                     .q = static_cast<T>(q)};
                      }));
  return out;
}

Tensor run_binary(const char* op, BinaryFunction function, const Tensor& a, const Tensor& b) {
  check_floating(a, op, "a");
  check_like(b, a, op, "b");
  const Broadcast cast = broadcast(a.shape(), b.shape(), op);
  Tensor out = Tensor::empty(cast.shape, a.options());
  STILLPOINT_DISPATCH(binary, a, ([&]<class T>() {
                        return kernels::BinaryArgs<T>{.function = function,
                                                      .a = a.data<T>(),
                                                      .b = b.data<T>(),
                                                      .out = out.mutable_data<T>(),
                                                      .rows = cast.a.rows,
                                                      .columns = cast.a.columns,
                                                      .a_spread = cast.a.spread,
                                                      .b_spread = cast.b.spread};
                      }));
  return out;
}

// The gradient of f at x or y, whichever `at` is: one fused kernel, or `composed` from ops when it
// is to be differentiated itself.
template <class Composed>
Tensor grad_of(const char* op, BinaryFunction fused, const Tensor& g, const Tensor& at,
               const Composed& composed) {
  return grad_enabled() ? composed() : run_binary(op, fused, g, at);
}

}  // namespace

// ---- two operands ------------------------------------------------------------------------------

Tensor add(const Tensor& a, const Tensor& b) {
  return record("add", {a, b}, run_binary("add", BinaryFunction::add, a, b),
                [sa = a.shape(), sb = b.shape(), da = a.requires_grad(),
                 db = b.requires_grad()](const Tensor& g) -> Gradients {
                  return {da ? sum_to(g, sa) : Tensor(), db ? sum_to(g, sb) : Tensor()};
                });
}

Tensor sub(const Tensor& a, const Tensor& b) {
  return record("sub", {a, b}, run_binary("sub", BinaryFunction::sub, a, b),
                [sa = a.shape(), sb = b.shape(), da = a.requires_grad(),
                 db = b.requires_grad()](const Tensor& g) -> Gradients {
                  return {da ? sum_to(g, sa) : Tensor(), db ? neg(sum_to(g, sb)) : Tensor()};
                });
}

Tensor mul(const Tensor& a, const Tensor& b) {
  // Each factor is kept only if the other one's gradient needs it.
  return record("mul", {a, b}, run_binary("mul", BinaryFunction::mul, a, b),
                [for_a = a.requires_grad() ? b : Tensor(), for_b = b.requires_grad() ? a : Tensor(),
                 sa = a.shape(), sb = b.shape()](const Tensor& g) -> Gradients {
                  return {for_a ? sum_to(mul(g, for_a), sa) : Tensor(),
                          for_b ? sum_to(mul(g, for_b), sb) : Tensor()};
                });
}

Tensor div(const Tensor& a, const Tensor& b) {
  return record("div", {a, b}, run_binary("div", BinaryFunction::div, a, b),
                [b, sa = a.shape(), da = a.requires_grad(), db = b.requires_grad()](
                    const Tensor& g, const Tensor& y) -> Gradients {
                  const Tensor g_over_b = div(g, b);
                  return {da ? sum_to(g_over_b, sa) : Tensor(),
                          db ? neg(sum_to(mul(g_over_b, y), b.shape())) : Tensor()};
                });
}

// ---- one operand -------------------------------------------------------------------------------

Tensor affine(const Tensor& x, double scale, double shift) {
  return record("affine", {x}, run_unary("affine", UnaryFunction::affine, x, scale, shift),
                [scale](const Tensor& g) -> Gradients { return {affine(g, scale)}; });
}

Tensor neg(const Tensor& x) { return affine(x, -1.0); }

// g where the output is above 0: linear in g and its own transpose.
Tensor relu_backward(const Tensor& g, const Tensor& y) {
  return record("relu_backward", {g},
                run_binary("relu_backward", BinaryFunction::relu_grad_y, g, y),
                [y = y.detach()](const Tensor& u) -> Gradients { return {relu_backward(u, y)}; });
}

Tensor relu(const Tensor& x) {
  return record(
      "relu", {x}, run_unary("relu", UnaryFunction::relu, x),
      [](const Tensor& g, const Tensor& y) -> Gradients { return {relu_backward(g, y)}; });
}

Tensor sigmoid_backward(const Tensor& g, const Tensor& y) {
  return grad_of("sigmoid_backward", BinaryFunction::sigmoid_grad_y, g, y,
                 [&] { return mul(g, mul(y, affine(y, -1.0, 1.0))); });
}

Tensor sigmoid(const Tensor& x) {
  return record(
      "sigmoid", {x}, run_unary("sigmoid", UnaryFunction::sigmoid, x),
      [](const Tensor& g, const Tensor& y) -> Gradients { return {sigmoid_backward(g, y)}; });
}

Tensor tanh_backward(const Tensor& g, const Tensor& y) {
  return grad_of("tanh_backward", BinaryFunction::tanh_grad_y, g, y,
                 [&] { return mul(g, affine(square(y), -1.0, 1.0)); });
}

Tensor tanh(const Tensor& x) {
  return record(
      "tanh", {x}, run_unary("tanh", UnaryFunction::tanh, x),
      [](const Tensor& g, const Tensor& y) -> Gradients { return {tanh_backward(g, y)}; });
}

Tensor silu(const Tensor& x) {
  return record("silu", {x}, run_unary("silu", UnaryFunction::silu, x),
                [x](const Tensor& g) -> Gradients {
                  return {grad_of("silu_backward", BinaryFunction::silu_grad_x, g, x, [&] {
                    const Tensor s = sigmoid(x);
                    return mul(g, mul(s, affine(mul(x, affine(s, -1.0, 1.0)), 1.0, 1.0)));
                  })};
                });
}

Tensor exp(const Tensor& x) {
  return record("exp", {x}, run_unary("exp", UnaryFunction::exp, x),
                [](const Tensor& g, const Tensor& y) -> Gradients { return {mul(g, y)}; });
}

Tensor log(const Tensor& x) {
  return record("log", {x}, run_unary("log", UnaryFunction::log, x),
                [x](const Tensor& g) -> Gradients { return {div(g, x)}; });
}

Tensor sqrt(const Tensor& x) {
  return record("sqrt", {x}, run_unary("sqrt", UnaryFunction::sqrt, x),
                [](const Tensor& g, const Tensor& y) -> Gradients {
                  return {grad_of("sqrt_backward", BinaryFunction::sqrt_grad_y, g, y,
                                  [&] { return affine(div(g, y), 0.5); })};
                });
}

Tensor rsqrt(const Tensor& x) {
  return record("rsqrt", {x}, run_unary("rsqrt", UnaryFunction::rsqrt, x),
                [](const Tensor& g, const Tensor& y) -> Gradients {
                  return {grad_of("rsqrt_backward", BinaryFunction::rsqrt_grad_y, g, y,
                                  [&] { return affine(mul(g, mul(y, square(y))), -0.5); })};
                });
}

Tensor square(const Tensor& x) {
  return record("square", {x}, run_unary("square", UnaryFunction::square, x),
                [x](const Tensor& g) -> Gradients {
                  return {grad_of("square_backward", BinaryFunction::square_grad_x, g, x,
                                  [&] { return affine(mul(g, x), 2.0); })};
                });
}

}  // namespace stillpoint::ops
