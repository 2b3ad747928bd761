// transpose_csr by its definition: for every column, all entries that lie in it.
#pragma once

#include <cstdint>

#include "kernels/transpose_csr/transpose_csr.h"

namespace stillpoint::kernels::reference {

// The number of entries between neighbouring offsets where it is the same everywhere, else 0.
inline int32_t common_degree(const int32_t* offsets, int64_t rows) {
  for (int64_t i = 0; i < rows; ++i)
    if (offsets[i + 1] - offsets[i] != offsets[1]) return 0;
  return rows > 0 ? offsets[1] : 0;
}

inline void transpose_csr(const TransposeCsrArgs& args) {
  const CsrView& p = args.pattern;
  int32_t slot = 0;
  for (int64_t c = 0; c < p.cols; ++c) {
    args.t_offsets[c] = slot;
    for (int64_t i = 0; i < p.rows; ++i)
      for (int32_t e = p.offsets[i]; e < p.offsets[i + 1]; ++e) {
        if (p.indices[e] != c) continue;
        args.t_indices[slot] = static_cast<int32_t>(i);
        args.t_order[slot] = e;
        args.order[e] = slot++;
      }
  }
  args.t_offsets[p.cols] = slot;
  args.degrees[0] = common_degree(p.offsets, p.rows);
  args.degrees[1] = common_degree(args.t_offsets, p.cols);
}

}  // namespace stillpoint::kernels::reference
