#include "kernels/embedding/embedding.h"

#include <algorithm>

#include "engine/dispatch.h"
#include "engine/ops.h"
#include "kernels/embedding/embedding_reference.h"

namespace stillpoint::ops {
namespace {

void check_inputs(const Tensor& table, const Tensor& indices) {
  check_floating(table, "embedding", "table");
  check_dtype(indices, DType::i32, "embedding", "indices");
  check<TypeError>(indices.device() == table.device(),
                   "embedding: indices are on {}, the table on {}", name(indices.device()),
                   name(table.device()));
  check<ShapeError>(table.rank() == 2, "embedding: table has shape {}, wanted [entries, channels]",
                    table.shape());
  if (indices.device() != Device::cpu) return;
  const int32_t* begin = indices.data<int32_t>();
  const int32_t* end = begin + indices.numel();
  const int64_t entries = table.dim(0);
  const int32_t* wrong =
      std::find_if(begin, end, [entries](int32_t i) { return i < 0 || i >= entries; });
  check<OptionError>(wrong == end, "embedding: index {} at {}, wanted 0 to {}",
                     wrong == end ? 0 : *wrong, wrong - begin, entries - 1);
}

// The transpose of the forward. Linear in g.
Tensor embedding_backward(const Tensor& g, const Tensor& indices, const Shape& table_shape) {
  Tensor dtable = Tensor::empty(table_shape, g.options());
  const int64_t entries = table_shape[0], count = indices.numel();
  const int64_t parts = kernels::embedding_parts(entries, count);
  Tensor workspace, sums;
  if (g.device() == Device::cpu)
    workspace = Tensor::empty({kernels::embedding_workspace(entries, count)}, {DType::i32});
  else if (parts > 1)
    sums = Tensor::empty({parts, entries, table_shape[1]}, g.options());
  STILLPOINT_DISPATCH(embedding_backward, g, ([&]<class T>() {
                        return kernels::EmbeddingBackwardArgs<T>{
                            .g = g.data<T>(),
                            .index = indices.data<int32_t>(),
                            .dtable = dtable.mutable_data<T>(),
                            .workspace = workspace ? workspace.mutable_data<int32_t>() : nullptr,
                            .sums = sums ? sums.mutable_data<T>() : nullptr,
                            .entries = entries,
                            .count = count,
                            .channels = table_shape[1]};
                      }));
  return record("embedding_backward", {g}, dtable,
                [indices](const Tensor& u) -> Gradients { return {embedding(u, indices)}; });
}

}  // namespace

Tensor embedding(const Tensor& table, const Tensor& indices) {
  check_inputs(table, indices);
  Shape shape = indices.shape();
  shape.push_back(table.dim(1));
  Tensor out = Tensor::empty(shape, table.options());
  STILLPOINT_DISPATCH(embedding, table, ([&]<class T>() {
                        return kernels::EmbeddingArgs<T>{.table = table.data<T>(),
                                                         .index = indices.data<int32_t>(),
                                                         .out = out.mutable_data<T>(),
                                                         .entries = table.dim(0),
                                                         .count = indices.numel(),
                                                         .channels = table.dim(1)};
                      }));
  return record("embedding", {table}, out,
                [indices, table_shape = table.shape()](const Tensor& g) -> Gradients {
                  return {embedding_backward(g, indices, table_shape)};
                });
}

}  // namespace stillpoint::ops
