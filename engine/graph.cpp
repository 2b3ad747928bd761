#include "engine/graph.h"

#include <utility>

#include "engine/ops.h"

namespace stillpoint {
namespace {

Tensor vector_tensor(const std::vector<int32_t>& v) {
  return Tensor::from(v, {static_cast<int64_t>(v.size())});
}

}  // namespace

Graph Graph::from_rows(const std::vector<std::vector<int32_t>>& rows, int64_t cols) {
  std::vector<int32_t> offsets{0}, indices;
  for (size_t i = 0; i < rows.size(); ++i) {
    for (const int32_t c : rows[i])
      check<ShapeError>(c >= 0 && c < cols, "graph: row {} names column {}, wanted 0 to {}", i, c,
                        cols - 1);
    indices.insert(indices.end(), rows[i].begin(), rows[i].end());
    offsets.push_back(static_cast<int32_t>(indices.size()));
  }
  return from_csr(vector_tensor(offsets), vector_tensor(indices), cols);
}

Graph Graph::from_csr(Tensor offsets, Tensor indices, int64_t cols) {
  ops::CsrTranspose t = ops::transpose_csr(offsets, indices, cols);
  const std::vector<int32_t> degrees = t.degrees.to_vector<int32_t>();
  Graph g;
  g.rows_ = offsets.numel() - 1;
  g.cols_ = cols;
  g.offsets_ = std::move(offsets);
  g.indices_ = std::move(indices);
  g.t_offsets_ = std::move(t.offsets);
  g.t_indices_ = std::move(t.indices);
  g.t_order_ = std::move(t.order);
  g.order_ = std::move(t.inverse);
  g.degree_ = degrees[0];
  g.t_degree_ = degrees[1];
  return g;
}

Graph Graph::from_neighbours(const Tensor& neighbours, int64_t keys) {
  const ops::NeighboursCsr csr = ops::neighbours_csr(neighbours, keys);
  const Tensor last = ops::rows(csr.offsets, csr.offsets.numel() - 1, 1);
  const int64_t entries = last.to_vector<int32_t>()[0];
  return from_csr(csr.offsets, ops::rows(csr.indices, 0, entries), neighbours.dim(0) * keys);
}

Graph Graph::to(Device device) const {
  Graph g = *this;
  for (Tensor* t : {&g.offsets_, &g.indices_, &g.t_offsets_, &g.t_indices_, &g.order_, &g.t_order_})
    *t = t->to(device);
  return g;
}

Graph Graph::transposed() const {
  Graph g = *this;
  std::swap(g.rows_, g.cols_);
  std::swap(g.offsets_, g.t_offsets_);
  std::swap(g.indices_, g.t_indices_);
  std::swap(g.order_, g.t_order_);
  std::swap(g.degree_, g.t_degree_);
  return g;
}

kernels::CsrView Graph::view() const {
  return {rows_, cols_, entries(), offsets_.data<int32_t>(), indices_.data<int32_t>(), degree_};
}

kernels::CsrView Graph::transposed_view() const { return transposed().view(); }

}  // namespace stillpoint
