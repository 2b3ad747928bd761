// A fixed sparse pattern, shared by every sample of a batch: the edges of a graph (node i listens
// to its neighbours), or the members of each factor of a factor graph. Held as compressed rows
// (CSR) together with its transpose, because the gradient of "gather from neighbours" is "gather
// from those who listen to me".
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/tensor.h"
#include "kernels/common/csr.h"

namespace stillpoint {

class Graph {
 public:
  Graph() = default;
  // rows()[i] lists the columns of row i, in any order, repeats allowed. Throws ShapeError if one
  // is not in [0, cols).
  static Graph from_rows(const std::vector<std::vector<int32_t>>& rows, int64_t cols);
  // The same from CSR arrays that are already tensors on one device (offsets [rows + 1], indices
  // [entries], int32). Contents are not checked; the transpose is built on that device. Waits for
  // it: whether all rows have one degree is asked of the host.
  static Graph from_csr(Tensor offsets, Tensor indices, int64_t cols);

  // One graph of all samples of a batch, each a block of the diagonal: row b N + i listens to
  // columns b keys + j for the neighbours j of node i of sample b, [B, N, count] int32 in [0,
  // keys), not checked; negative ones are none (a Sample's `indices`). Activations [B, N, C] are
  // its rows as [1, B N, C]. Built on the device of `neighbours`; waits for it, as from_csr does.
  static Graph from_neighbours(const Tensor& neighbours, int64_t keys);

  int64_t rows() const { return rows_; }
  int64_t cols() const { return cols_; }
  int64_t entries() const { return indices_.defined() ? indices_.numel() : 0; }
  Device device() const { return offsets_.device(); }
  Graph to(Device device) const;
  Graph transposed() const;  // costs nothing

  const Tensor& offsets() const { return offsets_; }
  const Tensor& indices() const { return indices_; }
  // For every entry of the transpose, which entry of this pattern it is: [entries], int32.
  const Tensor& transposed_order() const { return t_order_; }

  kernels::CsrView view() const;
  kernels::CsrView transposed_view() const;

 private:
  int64_t rows_ = 0, cols_ = 0;
  Tensor offsets_, indices_;
  Tensor t_offsets_, t_indices_;
  Tensor order_, t_order_;  // order_: the inverse of t_order_
  int32_t degree_ = 0, t_degree_ = 0;
};

}  // namespace stillpoint
