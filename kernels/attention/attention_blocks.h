// How attention on the CPU cuts its work, and where the pieces lie in the workspace.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/attention/attention.h"
#include "kernels/common/parallel.h"

namespace stillpoint::kernels::cpu::attention_blocks {

// A block of scores takes 36 KiB, three quarters of a first-level cache. Both are multiples of 16,
// the lanes of the widest vectors, and of the rows of a tile.
constexpr int64_t kQueries = 96;
constexpr int64_t kKeys = 96;

constexpr int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }
constexpr int64_t blocks(int64_t n, int64_t size) { return (n + size - 1) / size; }
constexpr int64_t padded(int64_t width) { return round_up(width, 16); }

inline int64_t all_heads(const AttentionShape& s) { return s.batch * s.heads; }

// Rows of one head in [batch, rows, heads width], and which of them are masked out.
struct HeadRows {
  const float* first;
  const int32_t* mask;  // or null
  int64_t stride, width;

  const float* row(int64_t i) const { return first + i * stride; }
  bool seen(int64_t i) const { return mask == nullptr || mask[i] != 0; }
};
inline int64_t head_offset(const AttentionShape& s, int64_t rows, int64_t head) {
  return head / s.heads * rows * s.heads * s.width + head % s.heads * s.width;
}
inline HeadRows query_rows(const float* from, const AttentionShape& s, int64_t head) {
  return {from + head_offset(s, s.queries, head), nullptr, s.heads * s.width, s.width};
}
inline HeadRows key_rows(const float* from, const int32_t* mask, const AttentionShape& s,
                         int64_t head) {
  return {from + head_offset(s, s.keys, head),
          mask == nullptr ? nullptr : mask + head / s.heads * s.keys, s.heads * s.width, s.width};
}

// Calls body(head, part) for the parts of all heads, each a task of its own.
template <class Body>
void for_parts(const AttentionShape& s, int64_t parts, Body&& body) {
  parallel_for(all_heads(s) * parts, 1, [&](int64_t first, int64_t last) {
    for (int64_t task = first; task < last; ++task) body(task / parts, task % parts);
  });
}

// ---- forward -----------------------------------------------------------------------------------

// For every head and block of keys: keys transposed [width, kKeys], values [kKeys, padded(width)].

inline int64_t forward_block_size(const AttentionShape& s) {
  return kKeys * (s.width + padded(s.width));
}
inline int64_t forward_block_at(const AttentionShape& s, int64_t head, int64_t block) {
  return (head * blocks(s.keys, kKeys) + block) * forward_block_size(s);
}

// ---- backward ----------------------------------------------------------------------------------

// For every head: queries (scaled) and gradients [padded queries, padded(width)], and what each
// panel of keys adds to the queries' gradient.

// Panels are what threads share where there are few heads: about 16 tasks in all, and no more than
// 8 panels, so that memory stays linear.
inline int64_t panels(const AttentionShape& s) {
  const int64_t wanted = blocks(16, std::max<int64_t>(1, all_heads(s)));
  return std::clamp<int64_t>(wanted, 1, std::clamp<int64_t>(blocks(s.keys, kKeys), 1, 8));
}
inline int64_t query_array(const AttentionShape& s) {
  return round_up(s.queries, kQueries) * padded(s.width);
}
struct BackwardArrays {
  float* q;
  float* g;
  float* dq;  // panel after panel, each of query_array elements
};
inline BackwardArrays backward_arrays(float* workspace, const AttentionShape& s, int64_t head) {
  float* first = workspace + head * (2 + panels(s)) * query_array(s);
  return {first, first + query_array(s), first + 2 * query_array(s)};
}

}  // namespace stillpoint::kernels::cpu::attention_blocks
