// reductions: sums and maxima over one dimension, and the repetition that transposes the sum. A
// tensor is seen as [outer, n, inner] and reduced over n; everything, one dimension, all columns or
// all rows are special cases.
//
//   reduce_sum    out[o, i]    = scale * sum_k x[o, k, i]
//   repeat        out[o, k, i] = scale * x[o, i]
//   reduce_max    out[o, i]    = max_k x[o, k, i], index[o, i] the first k that attains it (n > 0);
//                 a NaN is greater than everything
//   scatter_max   dx[o, k, i]  = g[o, i] where k = index[o, i], else 0: the gradient of reduce_max
//
// Sums are formed in chunks of n, whose number depends on the shape alone; the chunks' sums are
// added in their order. The result is the same bits for any thread count and launch. Outputs may
// not alias inputs.
//
// Cost: 4 bytes per element of the inputs and outputs, and one flop per element of the larger one.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/common/status.h"
#include "kernels/common/stream.h"

namespace stillpoint::kernels {

template <class T>
struct ReduceSumArgs {
  const T* x;    // [outer, n, inner]
  T* out;        // [outer, inner]
  T* workspace;  // [reduce_workspace(outer, n, inner)]
  int64_t outer, n, inner;
  T scale;
};

template <class T>
struct RepeatArgs {
  const T* x;  // [outer, inner]
  T* out;      // [outer, n, inner]
  int64_t outer, n, inner;
  T scale;
};

template <class T>
struct ReduceMaxArgs {
  const T* x;      // [outer, n, inner]
  T* out;          // [outer, inner]
  int32_t* index;  // [outer, inner]
  int64_t outer, n, inner;
};

template <class T>
struct ScatterMaxArgs {
  const T* g;            // [outer, inner]
  const int32_t* index;  // [outer, inner]
  T* dx;                 // [outer, n, inner]
  int64_t outer, n, inner;
};

// Numbers of n per chunk: at least 2048 elements, and no more than 256 chunks.
inline int64_t reduce_chunk(int64_t n, int64_t inner) {
  return std::max({(n + 255) / 256, 2048 / std::max<int64_t>(inner, 1), int64_t{1}});
}
inline int64_t reduce_chunks(int64_t n, int64_t inner) {
  const int64_t chunk = reduce_chunk(n, inner);
  return std::max<int64_t>(1, (n + chunk - 1) / chunk);
}
// Elements of workspace: the chunks' sums, where there is more than one.
inline int64_t reduce_workspace(int64_t outer, int64_t n, int64_t inner) {
  const int64_t chunks = reduce_chunks(n, inner);
  return chunks == 1 ? 0 : outer * chunks * inner;
}

namespace cpu {
void reduce_sum(const ReduceSumArgs<float>& args);
void repeat(const RepeatArgs<float>& args);
void reduce_max(const ReduceMaxArgs<float>& args);
void scatter_max(const ScatterMaxArgs<float>& args);
}  // namespace cpu

namespace cuda {
Status reduce_sum(const ReduceSumArgs<float>& args, Stream stream);
Status repeat(const RepeatArgs<float>& args, Stream stream);
Status reduce_max(const ReduceMaxArgs<float>& args, Stream stream);
Status scatter_max(const ScatterMaxArgs<float>& args, Stream stream);
}  // namespace cuda

}  // namespace stillpoint::kernels
