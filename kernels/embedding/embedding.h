// embedding: rows of a table [entries, channels] picked by index.
//
//   forward    out[i] = table[index[i]], or NaN where the index is outside [0, entries)
//   backward   dtable[v] = sum over i with index[i] = v of g[i], in the order of i; indices outside
//              are left out
//
// The backward gathers instead of scattering: every row of dtable looks up who picked it, so there
// are no atomics and the result is the same bits for any thread count and launch. The CPU sorts the
// positions by index (counting sort, in the workspace). CUDA lets the warp of each table row read
// all indices, 32 at a time: entries * count / 32 reads from the cache, which suits vocabularies of
// symbols or cells (30,000 entries picked 3,000 times: 2.8 million reads) better than a
// device-wide sort; tables and batches both in the hundred thousands would want the sort. Where a
// row is picked often, the picks are cut into parts of 256 or more, with a warp for each row and
// part, whose sums are added in order: 10 entries picked 20,736 times took 5.7 ms on an H100
// otherwise.
//
// Outputs may not alias inputs. Cost with n picks: forward 8 n channels bytes; backward 4 (n +
// entries) channels bytes, n channels flops, and on CUDA up to 8 n channels bytes for the sums of
// parts.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/common/status.h"
#include "kernels/common/stream.h"

namespace stillpoint::kernels {

template <class T>
struct EmbeddingArgs {
  const T* table;        // [entries, channels]
  const int32_t* index;  // [count]
  T* out;                // [count, channels]
  int64_t entries;
  int64_t count;
  int64_t channels;
};

// Elements of EmbeddingBackwardArgs::workspace.
constexpr int64_t embedding_workspace(int64_t entries, int64_t count) {
  return entries + 1 + count;
}

// Parts that CUDA cuts the picks of the backward into: their sums are no more rows than g has.
constexpr int64_t kEmbeddingPart = 256, kEmbeddingMostParts = 1024;
inline int64_t embedding_parts(int64_t entries, int64_t count) {
  const int64_t most = entries == 0 ? 0 : count / entries;
  return std::clamp<int64_t>(std::min(most, count / kEmbeddingPart), 1, kEmbeddingMostParts);
}

template <class T>
struct EmbeddingBackwardArgs {
  const T* g;            // [count, channels]
  const int32_t* index;  // [count]
  T* dtable;             // [entries, channels]
  int32_t* workspace;    // [embedding_workspace(entries, count)] for the CPU; others ignore it
  T* sums;               // [embedding_parts(entries, count), entries, channels] for CUDA where
                         // there is more than one part; others ignore it
  int64_t entries;
  int64_t count;
  int64_t channels;
};

namespace cpu {
void embedding(const EmbeddingArgs<float>& args);
void embedding_backward(const EmbeddingBackwardArgs<float>& args);
}  // namespace cpu

namespace cuda {
Status embedding(const EmbeddingArgs<float>& args, Stream stream);
Status embedding_backward(const EmbeddingBackwardArgs<float>& args, Stream stream);
}  // namespace cuda

}  // namespace stillpoint::kernels
