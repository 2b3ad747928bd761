#include "engine/graph.h"

#include <numeric>
#include <utility>

namespace stillpoint {
namespace {

struct Csr {
  std::vector<int32_t> offsets, indices, order;
};

// Counting sort by column: entries of a column keep the order of their rows.
Csr transpose(const Csr& a, int64_t cols) {
  Csr t;
  t.offsets.assign(static_cast<size_t>(cols) + 1, 0);
  t.indices.resize(a.indices.size());
  t.order.resize(a.indices.size());
  for (const int32_t c : a.indices) ++t.offsets[static_cast<size_t>(c) + 1];
  std::partial_sum(t.offsets.begin(), t.offsets.end(), t.offsets.begin());
  std::vector<int32_t> next(t.offsets.begin(), t.offsets.end() - 1);
  for (size_t row = 0; row + 1 < a.offsets.size(); ++row)
    for (int32_t e = a.offsets[row]; e < a.offsets[row + 1]; ++e) {
      const auto slot =
          static_cast<size_t>(next[static_cast<size_t>(a.indices[static_cast<size_t>(e)])]++);
      t.indices[slot] = static_cast<int32_t>(row);
      t.order[slot] = e;
    }
  return t;
}

// The entries per row where all rows have the same number, else 0.
int32_t common_degree(const std::vector<int32_t>& offsets) {
  if (offsets.size() < 2) return 0;
  for (size_t i = 1; i + 1 < offsets.size(); ++i)
    if (offsets[i + 1] - offsets[i] != offsets[1]) return 0;
  return offsets[1];
}

Tensor vector_tensor(const std::vector<int32_t>& v) {
  return Tensor::from(v, {static_cast<int64_t>(v.size())});
}

}  // namespace

Graph Graph::from_rows(const std::vector<std::vector<int32_t>>& rows, int64_t cols) {
  Csr a;
  a.offsets.push_back(0);
  for (size_t i = 0; i < rows.size(); ++i) {
    for (const int32_t c : rows[i]) {
      check<ShapeError>(c >= 0 && c < cols, "graph: row {} names column {}, wanted 0 to {}", i, c,
                        cols - 1);
      a.indices.push_back(c);
    }
    a.offsets.push_back(static_cast<int32_t>(a.indices.size()));
  }
  const Csr t = transpose(a, cols);
  std::vector<int32_t> inverse(t.order.size());
  for (size_t slot = 0; slot < t.order.size(); ++slot)
    inverse[static_cast<size_t>(t.order[slot])] = static_cast<int32_t>(slot);

  Graph g;
  g.rows_ = static_cast<int64_t>(rows.size());
  g.cols_ = cols;
  g.offsets_ = vector_tensor(a.offsets);
  g.indices_ = vector_tensor(a.indices);
  g.t_offsets_ = vector_tensor(t.offsets);
  g.t_indices_ = vector_tensor(t.indices);
  g.t_order_ = vector_tensor(t.order);
  g.order_ = vector_tensor(inverse);
  g.degree_ = common_degree(a.offsets);
  g.t_degree_ = common_degree(t.offsets);
  return g;
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
