// take_rows: out[i] = x[index[i]], whole rows of 4-byte words, and its transpose for indices that
// name every row at most once, put_rows: x[index[i]] = out[i]; other rows of x stay. They move bits
// and know no types.
//
// Indices are in [0, rows of x), not checked. Outputs may not alias inputs.
//
// Cost: 8 bytes per word moved.
#pragma once

#include <cstdint>

#include "kernels/common/status.h"
#include "kernels/common/stream.h"

namespace stillpoint::kernels {

struct MoveRowsArgs {
  const void* from;      // take: [rows of x, words]; put: [count, words]
  void* to;              // take: [count, words]; put: [rows of x, words]
  const int32_t* index;  // [count]
  int64_t count, words;
};

namespace cpu {
void take_rows(const MoveRowsArgs& args);
void put_rows(const MoveRowsArgs& args);
}  // namespace cpu

namespace cuda {
Status take_rows(const MoveRowsArgs& args, Stream stream);
Status put_rows(const MoveRowsArgs& args, Stream stream);
}  // namespace cuda

}  // namespace stillpoint::kernels
