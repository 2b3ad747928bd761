#include "kernels/topk/topk.h"

#include <limits>

#include "engine/dispatch.h"
#include "engine/ops.h"
#include "kernels/topk/topk_reference.h"

namespace stillpoint::ops {
namespace {

void check_inputs(const Tensor& x, int64_t k) {
  check_floating(x, "topk", "x");
  check<ShapeError>(x.rank() >= 1, "topk: x has shape [], wanted [..., n]");
  check<ShapeError>(x.dim(-1) <= std::numeric_limits<int32_t>::max(),
                    "topk: rows of shape {}, wanted up to {} elements", x.shape(),
                    std::numeric_limits<int32_t>::max());
  check<OptionError>(k >= 1 && k <= x.dim(-1), "topk: the {} largest of {} were asked for", k,
                     x.dim(-1));
}

Shape with_last(Shape shape, int64_t last) {
  shape.back() = last;
  return shape;
}

Tensor scatter(const Tensor& g, const Tensor& indices, int64_t n);

// Along the last dimension: x [..., n], indices [..., k] -> [..., k].
Tensor gather(const Tensor& x, const Tensor& indices) {
  const kernels::TopkShape shape{rows_of(x), x.dim(-1), indices.dim(-1)};
  Tensor out = Tensor::empty(indices.shape(), x.options());
  STILLPOINT_DISPATCH(topk_gather, x, ([&]<class T>() {
                        return kernels::TopkGatherArgs<T>{.x = x.data<T>(),
                                                          .indices = indices.data<int32_t>(),
                                                          .out = out.mutable_data<T>(),
                                                          .shape = shape};
                      }));
  return record("topk_gather", {x}, out, [indices, n = shape.n](const Tensor& g) -> Gradients {
    return {scatter(g, indices, n)};
  });
}

// Its transpose: g [..., k] -> [..., n].
Tensor scatter(const Tensor& g, const Tensor& indices, int64_t n) {
  const kernels::TopkShape shape{rows_of(g), n, g.dim(-1)};
  Tensor dx = Tensor::empty(with_last(g.shape(), n), g.options());
  STILLPOINT_DISPATCH(topk_scatter, g, ([&]<class T>() {
                        return kernels::TopkScatterArgs<T>{.g = g.data<T>(),
                                                           .indices = indices.data<int32_t>(),
                                                           .dx = dx.mutable_data<T>(),
                                                           .shape = shape};
                      }));
  return record("topk_scatter", {g}, dx,
                [indices](const Tensor& u) -> Gradients { return {gather(u, indices)}; });
}

}  // namespace

Topk topk(const Tensor& x, int64_t k) {
  check_inputs(x, k);
  const kernels::TopkShape shape{rows_of(x), x.dim(-1), k};
  Topk out{Tensor::empty(with_last(x.shape(), k), x.options()),
           Tensor::empty(with_last(x.shape(), k), {DType::i32, x.device()})};
  Tensor workspace;
  if (x.device() == Device::cpu)
    workspace = Tensor::empty({kernels::cpu::topk_workspace(shape)}, {DType::i32});
  STILLPOINT_DISPATCH(topk, x, ([&]<class T>() {
                        return kernels::TopkArgs<T>{
                            .x = x.data<T>(),
                            .values = out.values.mutable_data<T>(),
                            .indices = out.indices.mutable_data<int32_t>(),
                            .workspace = workspace ? workspace.mutable_data<int32_t>() : nullptr,
                            .shape = shape};
                      }));
  out.values = record("topk", {x}, out.values,
                      [indices = out.indices, n = shape.n](const Tensor& g) -> Gradients {
                        return {scatter(g, indices, n)};
                      });
  return out;
}

}  // namespace stillpoint::ops
