#include "kernels/reductions/reductions.h"

#include <limits>

#include "engine/broadcast.h"
#include "engine/dispatch.h"
#include "engine/ops.h"
#include "kernels/reductions/reductions_reference.h"

namespace stillpoint::ops {
namespace {

// A tensor as [outer, n, inner], reduced over n.
struct View {
  int64_t outer, n, inner;
};

Tensor repeat(const Tensor& x, View v, Shape shape, double scale);

// scale * sum over n, under `shape` ([outer, inner] in other words).
Tensor reduce_sum(const Tensor& x, View v, Shape shape, double scale) {
  Tensor out = Tensor::empty(std::move(shape), x.options());
  Tensor workspace = Tensor::empty({kernels::reduce_workspace(v.outer, v.n, v.inner)}, x.options());
  STILLPOINT_DISPATCH(reduce_sum, x, ([&]<class T>() {
                        return kernels::ReduceSumArgs<T>{.x = x.data<T>(),
                                                         .out = out.mutable_data<T>(),
                                                         .workspace = workspace.mutable_data<T>(),
                                                         .outer = v.outer,
                                                         .n = v.n,
                                                         .inner = v.inner,
                                                         .scale = static_cast<T>(scale)};
                      }));
  return record("sum", {x}, out, [v, before = x.shape(), scale](const Tensor& g) -> Gradients {
    return {repeat(g, v, before, scale)};
  });
}

// scale * x, n times over.
Tensor repeat(const Tensor& x, View v, Shape shape, double scale) {
  Tensor out = Tensor::empty(std::move(shape), x.options());
  STILLPOINT_DISPATCH(repeat, x, ([&]<class T>() {
                        return kernels::RepeatArgs<T>{.x = x.data<T>(),
                                                      .out = out.mutable_data<T>(),
                                                      .outer = v.outer,
                                                      .n = v.n,
                                                      .inner = v.inner,
                                                      .scale = static_cast<T>(scale)};
                      }));
  return record("repeat", {x}, out, [v, before = x.shape(), scale](const Tensor& g) -> Gradients {
    return {reduce_sum(g, v, before, scale)};
  });
}

struct Reduction {
  View view;
  Shape shape;  // of the result
};

Reduction over_dimension(const Tensor& x, int dim, KeepDim keep, const char* op) {
  check_floating(x, op, "x");
  const int rank = x.rank();
  check<ShapeError>(dim >= -rank && dim < rank, "{}: dimension {} of shape {} was asked for", op,
                    dim, x.shape());
  const auto at = x.shape().begin() + (dim < 0 ? dim + rank : dim);
  const Shape before(x.shape().begin(), at), after(at + 1, x.shape().end());
  Reduction r{{numel(before), *at, numel(after)}, before};
  if (keep == KeepDim::yes) r.shape.push_back(1);
  r.shape.insert(r.shape.end(), after.begin(), after.end());
  return r;
}

// The dimension that a spread operand lacks.
View lacking(const Cover& c) {
  if (c.spread == kernels::Spread::per_row) return {c.rows, c.columns, 1};
  return {1, c.rows, c.columns};
}

Tensor scatter_max(const Tensor& g, const Tensor& index, View v, const Shape& shape) {
  Tensor dx = Tensor::empty(shape, g.options());
  STILLPOINT_DISPATCH(scatter_max, g, ([&]<class T>() {
                        return kernels::ScatterMaxArgs<T>{.g = g.data<T>(),
                                                          .index = index.data<int32_t>(),
                                                          .dx = dx.mutable_data<T>(),
                                                          .outer = v.outer,
                                                          .n = v.n,
                                                          .inner = v.inner};
                      }));
  return record_undifferentiable("max_backward", {g}, dx);
}

}  // namespace

Tensor sum(const Tensor& x) {
  check_floating(x, "sum", "x");
  return reduce_sum(x, {1, x.numel(), 1}, {}, 1.0);
}

Tensor mean(const Tensor& x) {
  check_floating(x, "mean", "x");
  check<ShapeError>(x.numel() > 0, "mean: shape {} has no elements", x.shape());
  return reduce_sum(x, {1, x.numel(), 1}, {}, 1.0 / static_cast<double>(x.numel()));
}

Tensor sum(const Tensor& x, int dim, KeepDim keep) {
  Reduction r = over_dimension(x, dim, keep, "sum");
  return reduce_sum(x, r.view, std::move(r.shape), 1.0);
}

Tensor mean(const Tensor& x, int dim, KeepDim keep) {
  Reduction r = over_dimension(x, dim, keep, "mean");
  check<ShapeError>(r.view.n > 0, "mean: dimension {} of shape {} is empty", dim, x.shape());
  return reduce_sum(x, r.view, std::move(r.shape), 1.0 / static_cast<double>(r.view.n));
}

Tensor max(const Tensor& x, int dim, KeepDim keep) {
  Reduction r = over_dimension(x, dim, keep, "max");
  check<ShapeError>(r.view.n > 0, "max: dimension {} of shape {} is empty", dim, x.shape());
  check<ShapeError>(r.view.n <= std::numeric_limits<int32_t>::max(),
                    "max: dimension {} of shape {}, wanted up to {} elements", dim, x.shape(),
                    std::numeric_limits<int32_t>::max());
  Tensor out = Tensor::empty(r.shape, x.options());
  Tensor index = Tensor::empty(r.shape, {DType::i32, x.device()});
  STILLPOINT_DISPATCH(reduce_max, x, ([&]<class T>() {
                        return kernels::ReduceMaxArgs<T>{.x = x.data<T>(),
                                                         .out = out.mutable_data<T>(),
                                                         .index = index.mutable_data<int32_t>(),
                                                         .outer = r.view.outer,
                                                         .n = r.view.n,
                                                         .inner = r.view.inner};
                      }));
  return record("max", {x}, out,
                [index, view = r.view, before = x.shape()](const Tensor& g) -> Gradients {
                  return {scatter_max(g, index, view, before)};
                });
}

Tensor sum_to(const Tensor& x, const Shape& shape) {
  check_floating(x, "sum_to", "x");
  const Cover c = cover(shape, x.shape(), "sum_to");
  if (c.spread == kernels::Spread::full) return x;
  return reduce_sum(x, lacking(c), shape, 1.0);
}

Tensor broadcast_to(const Tensor& x, const Shape& shape) {
  check_floating(x, "broadcast_to", "x");
  const Cover c = cover(x.shape(), shape, "broadcast_to");
  if (c.spread == kernels::Spread::full) return x;
  return repeat(x, lacking(c), shape, 1.0);
}

}  // namespace stillpoint::ops
