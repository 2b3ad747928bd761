// graph_attention by its formulas, one query at a time. In double it is the truth that the tests
// hold the backends to.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "kernels/graph_attention/graph_attention.h"

namespace stillpoint::kernels::reference {

// One head of one row: where its query lies, where key 0 does, and the row of log_sum and delta.
struct GraphAttentionRow {
  int64_t row, q, key_0, saved;
};

// Calls body(at) for every head of every row.
template <class Body>
void for_graph_attention_rows(const CsrView& pattern, const GraphAttentionShape& s, Body&& body) {
  const int64_t channels = s.heads * s.width;
  for (int64_t b = 0; b < s.batch; ++b)
    for (int64_t i = 0; i < pattern.rows; ++i)
      for (int64_t h = 0; h < s.heads; ++h)
        body(GraphAttentionRow{.row = i,
                               .q = (b * pattern.rows + i) * channels + h * s.width,
                               .key_0 = b * pattern.cols * channels + h * s.width,
                               .saved = (b * pattern.rows + i) * s.heads + h});
}

template <class T>
T graph_attention_dot(const T* a, const T* b, int64_t n) {
  T sum = 0;
  for (int64_t d = 0; d < n; ++d) sum += a[d] * b[d];
  return sum;
}

template <class T>
void graph_attention(const GraphAttentionArgs<T>& args) {
  const GraphAttentionShape& s = args.shape;
  const CsrView& p = args.pattern;
  constexpr T kInf = std::numeric_limits<T>::infinity();
  for_graph_attention_rows(p, s, [&](const GraphAttentionRow& at) {
    const auto key = [&](int32_t e) { return at.key_0 + p.indices[e] * s.heads * s.width; };
    const auto score = [&](int32_t e) {
      return static_cast<T>(s.scale) * graph_attention_dot(args.q + at.q, args.k + key(e), s.width);
    };
    const int32_t begin = p.offsets[at.row], end = p.offsets[at.row + 1];
    T max = -kInf, sum = 0;
    for (int32_t e = begin; e < end; ++e) {
      const T x = score(e);
      if (x > max || std::isnan(x)) max = x;
    }
    T* out = args.out + at.q;
    std::fill_n(out, s.width, T{0});
    args.log_sum[at.saved] = kInf;
    if (max == -kInf) return;
    for (int32_t e = begin; e < end; ++e) {
      const T weight = std::exp(score(e) - max);
      sum += weight;
      for (int64_t d = 0; d < s.width; ++d) out[d] += weight * args.v[key(e) + d];
    }
    for (int64_t d = 0; d < s.width; ++d) out[d] /= sum;
    args.log_sum[at.saved] = max + std::log(sum);
  });
}

template <class T>
void graph_attention_backward(const GraphAttentionBackwardArgs<T>& args) {
  const GraphAttentionShape& s = args.shape;
  const CsrView& p = args.pattern;
  const int64_t channels = s.heads * s.width;
  const T scale = static_cast<T>(s.scale);
  std::fill_n(args.dq, s.batch * p.rows * channels, T{0});
  std::fill_n(args.dk, s.batch * p.cols * channels, T{0});
  std::fill_n(args.dv, s.batch * p.cols * channels, T{0});
  for_graph_attention_rows(p, s, [&](const GraphAttentionRow& at) {
    const T* q = args.q + at.q;
    const T* g = args.g + at.q;
    const T delta = graph_attention_dot(g, args.out + at.q, s.width);
    args.delta[at.saved] = delta;
    for (int32_t e = p.offsets[at.row]; e < p.offsets[at.row + 1]; ++e) {
      const int64_t key = at.key_0 + p.indices[e] * channels;
      const T weight =
          std::exp(scale * graph_attention_dot(q, args.k + key, s.width) - args.log_sum[at.saved]);
      const T ds = scale * weight * (graph_attention_dot(g, args.v + key, s.width) - delta);
      for (int64_t d = 0; d < s.width; ++d) {
        args.dv[key + d] += weight * g[d];
        args.dq[at.q + d] += ds * args.k[key + d];
        args.dk[key + d] += ds * q[d];
      }
    }
  });
}

}  // namespace stillpoint::kernels::reference
