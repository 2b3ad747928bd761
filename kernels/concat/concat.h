// concat: copies a block of columns between two row-major matrices.
//
//   copy_columns   to[r * to_stride + c] = from[r * from_stride + c],   r < rows, c < columns
//
// Concatenation along the last dimension is one such copy per part, taking columns out is one, and
// the gradient of either is the other. The blocks may not overlap.
//
// Cost: 8 rows columns bytes, no flops.
#pragma once

#include <cstdint>

#include "kernels/common/status.h"
#include "kernels/common/stream.h"

namespace stillpoint::kernels {

template <class T>
struct CopyColumnsArgs {
  const T* from;  // [rows, from_stride], at the first column of the block
  T* to;          // [rows, to_stride], likewise
  int64_t rows, columns;
  int64_t from_stride, to_stride;  // elements between rows, at least `columns`
};

namespace cpu {
void copy_columns(const CopyColumnsArgs<float>& args);
}

namespace cuda {
Status copy_columns(const CopyColumnsArgs<float>& args, Stream stream);
}

}  // namespace stillpoint::kernels
