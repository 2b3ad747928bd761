// A sparse pattern as kernels see it: compressed rows, and the same entries compressed by column.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/common/portable.h"

namespace stillpoint::kernels {

// Row i holds the entries [offsets[i], offsets[i + 1]); entry e lies in column indices[e]. For a
// graph, row i is a node and its entries are the neighbours it listens to.
struct CsrView {
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t entries = 0;
  const int32_t* offsets = nullptr;  // [rows + 1]
  const int32_t* indices = nullptr;  // [entries]
  int32_t degree = 0;                // entries of every row where all have the same number, else 0
};

// The row that entry e lies in, by bisection.
STILLPOINT_HD inline int64_t row_of_entry(const CsrView& p, int64_t e) {
  int64_t low = 0, high = p.rows;  // offsets[low] <= e < offsets[high]
  while (high - low > 1) {
    const int64_t middle = (low + high) / 2;
    (p.offsets[middle] <= e ? low : high) = middle;
  }
  return low;
}

// Whether two patterns on the host are one; a pattern that is its own transpose is symmetric. Costs
// nothing beside a walk along the entries for every channel.
inline bool same_pattern(const CsrView& a, const CsrView& b) {
  return a.rows == b.rows && a.cols == b.cols && a.entries == b.entries &&
         std::equal(a.offsets, a.offsets + a.rows + 1, b.offsets) &&
         std::equal(a.indices, a.indices + a.entries, b.indices);
}

}  // namespace stillpoint::kernels
