#include "kernels/gemm/gemm.h"

#include "engine/dispatch.h"
#include "engine/ops.h"
#include "engine/ops/activation.h"
#include "kernels/gemm/gemm_reference.h"

namespace stillpoint::ops {
namespace {

static_assert(static_cast<int>(Activation::tanh) == static_cast<int>(kernels::Activation::tanh));

// [rows, columns] that a matrix stands for once it is transposed as asked.
struct Size {
  int64_t rows, columns;
};
Size size_of(const Tensor& x, Transpose transpose) {
  if (transpose == Transpose::yes) return {x.dim(1), x.dim(0)};
  return {x.dim(0), x.dim(1)};
}

// activation(op(a) op(b) + bias) under `shape` ([m, n] in other words). Shapes are checked.
Tensor run(const Tensor& a, const Tensor& b, Transpose ta, Transpose tb, const Tensor& bias,
           Activation activation, Shape shape) {
  const int64_t m = size_of(a, ta).rows, n = size_of(b, tb).columns, k = size_of(a, ta).columns;
  Tensor out = Tensor::empty(std::move(shape), a.options());
  const bool on_cuda = a.device() == Device::cuda;
  Tensor workspace = Tensor::empty({on_cuda ? 0 : kernels::gemm_workspace(m, n, k)}, a.options());
  cublasContext* const cublas = on_cuda ? cuda::cublas_handle() : nullptr;
  STILLPOINT_DISPATCH(gemm, a, ([&]<class T>() {
                        return kernels::GemmArgs<T>{
                            .a = a.data<T>(),
                            .b = b.data<T>(),
                            .bias = bias ? bias.data<T>() : nullptr,
                            .out = out.mutable_data<T>(),
                            .workspace = workspace.mutable_data<T>(),
                            .m = m,
                            .n = n,
                            .k = k,
                            .transpose_a = ta == Transpose::yes,
                            .transpose_b = tb == Transpose::yes,
                            .activation = static_cast<kernels::Activation>(activation),
                            .cublas = cublas};
                      }));
  return out;
}

Transpose other(Transpose t) { return t == Transpose::yes ? Transpose::no : Transpose::yes; }

// x [..., C] as the matrix [rows, C].
Tensor as_matrix(const Tensor& x) {
  const Shape leading(x.shape().begin(), x.shape().end() - 1);
  return x.rank() == 2 ? x : reshape(x, {numel(leading), x.dim(-1)});
}

Tensor activation_backward(Activation activation, const Tensor& g, const Tensor& y) {
  switch (activation) {
    case Activation::none:
      return g;
    case Activation::relu:
      return relu_backward(g, y);
    case Activation::sigmoid:
      return sigmoid_backward(g, y);
    case Activation::tanh:
      return tanh_backward(g, y);
  }
  return g;
}

}  // namespace

Tensor matmul(const Tensor& a, const Tensor& b, Transpose transpose_a, Transpose transpose_b) {
  check_floating(a, "matmul", "a");
  check_like(b, a, "matmul", "b");
  check<ShapeError>(a.rank() == 2 && b.rank() == 2,
                    "matmul: a has shape {} and b {}, wanted two matrices", a.shape(), b.shape());
  const Size sa = size_of(a, transpose_a), sb = size_of(b, transpose_b);
  check<ShapeError>(sa.columns == sb.rows,
                    "matmul: a is [{}, {}] and b is [{}, {}] (after transposing); a's columns must "
                    "be as many as b's rows",
                    sa.rows, sa.columns, sb.rows, sb.columns);
  return record("matmul", {a, b},
                run(a, b, transpose_a, transpose_b, {}, Activation::none, {sa.rows, sb.columns}),
                // Each factor is kept only if the other one's gradient needs it.
                [for_a = a.requires_grad() ? b : Tensor(), for_b = b.requires_grad() ? a : Tensor(),
                 ta = transpose_a, tb = transpose_b](const Tensor& g) -> Gradients {
                  Tensor da, db;
                  if (for_a)
                    da = ta == Transpose::no ? matmul(g, for_a, Transpose::no, other(tb))
                                             : matmul(for_a, g, tb, Transpose::yes);
                  if (for_b)
                    db = tb == Transpose::no ? matmul(for_b, g, other(ta), Transpose::no)
                                             : matmul(g, for_b, Transpose::yes, ta);
                  return {da, db};
                });
}

Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias, Activation activation) {
  check_floating(x, "linear", "x");
  check_like(weight, x, "linear", "weight");
  check<ShapeError>(x.rank() >= 1 && weight.rank() == 2 && x.dim(-1) == weight.dim(1),
                    "linear: x has shape {} and weight {}, wanted [..., in] and [out, in]",
                    x.shape(), weight.shape());
  if (bias) {
    check_like(bias, x, "linear", "bias");
    check_shape(bias, {weight.dim(0)}, "linear", "bias");
  }
  Shape shape = x.shape();
  shape.back() = weight.dim(0);
  const auto backward = [for_x = x.requires_grad() ? weight : Tensor(),
                         for_weight = weight.requires_grad() ? x : Tensor(),
                         bias_shape = bias.requires_grad() ? bias.shape() : Shape(),
                         x_shape = x.shape()](const Tensor& g) -> Gradients {
    const Tensor rows = as_matrix(g);
    Tensor dx, dweight, dbias;
    if (for_x) dx = reshape(matmul(rows, for_x), x_shape);
    if (for_weight) dweight = matmul(rows, as_matrix(for_weight), Transpose::yes);
    if (!bias_shape.empty()) dbias = sum_to(rows, bias_shape);
    return {dx, dweight, dbias};
  };
  const Tensor y = run(as_matrix(x.detach()), weight, Transpose::no, Transpose::yes, bias,
                       activation, std::move(shape));
  if (activation == Activation::none) return record("linear", {x, weight, bias}, y, backward);
  return record("linear", {x, weight, bias}, y,
                [backward, activation](const Tensor& g, const Tensor& out) {
                  return backward(activation_backward(activation, g, out));
                });
}

}  // namespace stillpoint::ops
