// transpose_csr: the entries of a CSR pattern, sorted by column.
//
//   t_offsets  column c of the pattern is row c of the transpose, slots t_offsets[c] to
//              t_offsets[c + 1] - 1
//
//   t_indices  the row of the pattern that the entry in a slot came from
//
//   t_order    which entry of the pattern that is
//
//   order      the inverse: order[t_order[s]] = s
//
//   degrees    {entries of every row, entries of every column}, each 0 unless it is one number
//
// Stable: the entries of a column keep the order of their rows, repeats the order within their row,
// so there is one right answer, and every backend gives it. Outputs may alias neither inputs nor
// each other. Columns must lie in [0, cols); offsets must start at 0, not decrease, and end at
// entries: neither is checked.
//
// Cost with E entries: the CPU counts and places, 2 passes over the entries and 20 E bytes, plus a
// pass over at most max(E, cols) counters. CUDA counts, scans the counts and sorts the entries by
// column with a radix sort, 8 bits a pass: about 16 E bytes a pass and 40 E beside it.
#pragma once

#include <cstdint>

#include "kernels/common/csr.h"
#include "kernels/common/status.h"
#include "kernels/common/stream.h"

namespace stillpoint::kernels {

struct TransposeCsrArgs {
  CsrView pattern;     // its degree is not read
  int32_t* t_offsets;  // [cols + 1]
  int32_t* t_indices;  // [entries]
  int32_t* t_order;    // [entries]
  int32_t* order;      // [entries]
  int32_t* degrees;    // [2]
  void* workspace;
  int64_t workspace_bytes;  // as transpose_csr_workspace says for the same pattern
};

namespace cpu {
int64_t transpose_csr_workspace(const CsrView& pattern);
void transpose_csr(const TransposeCsrArgs& args);
}  // namespace cpu

namespace cuda {
Status transpose_csr_workspace(const CsrView& pattern, int64_t* bytes);
Status transpose_csr(const TransposeCsrArgs& args, Stream stream);
}  // namespace cuda

}  // namespace stillpoint::kernels
