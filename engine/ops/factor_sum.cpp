#include "kernels/factor_sum/factor_sum.h"

#include "engine/dispatch.h"
#include "engine/ops.h"
#include "kernels/factor_sum/factor_sum_reference.h"

namespace stillpoint::ops {
namespace {

// Row sums over the pattern; the gradient is row sums over its transpose.
Tensor sum_rows(const char* op, const Tensor& x, const Graph& pattern) {
  check_floating(x, op, "x");
  check<ShapeError>(x.rank() == 3 && x.dim(1) == pattern.cols(),
                    "{}: x has shape {}, wanted [batch, {}, channels]", op, x.shape(),
                    pattern.cols());
  check<TypeError>(pattern.device() == x.device(), "{}: the graph is on {}, x is on {}", op,
                   name(pattern.device()), name(x.device()));
  Tensor out = Tensor::empty({x.dim(0), pattern.rows(), x.dim(2)}, x.options());
  STILLPOINT_DISPATCH(factor_sum, x, ([&]<class T>() {
                        return kernels::FactorSumArgs<T>{.x = x.data<T>(),
                                                         .out = out.mutable_data<T>(),
                                                         .pattern = pattern.view(),
                                                         .batch = x.dim(0),
                                                         .channels = x.dim(2)};
                      }));
  return record(op, {x}, out, [op, transposed = pattern.transposed()](const Tensor& g) {
    return Gradients{sum_rows(op, g, transposed)};
  });
}

}  // namespace

Tensor factor_sum(const Tensor& x, const Graph& factors) {
  return sum_rows("factor_sum", x, factors);
}

Tensor factor_broadcast(const Tensor& x, const Graph& factors) {
  return sum_rows("factor_broadcast", x, factors.transposed());
}

}  // namespace stillpoint::ops
