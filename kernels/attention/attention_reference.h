// attention by its formulas, one query at a time. In double it is the truth that the tests hold the
// backends to.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "kernels/attention/attention.h"

namespace stillpoint::kernels::reference {

// Where the operands of one head of one query lie.
struct AttentionQuery {
  int64_t q, k;      // the first elements of the query and of key 0
  int64_t key_step;  // elements from key to key
  int64_t row;       // of log_sum and delta

  int64_t key(int64_t j) const { return k + j * key_step; }
};

// Calls body(b, i, query) for every head of every query.
template <class Body>
void for_attention_queries(const AttentionShape& s, Body&& body) {
  const int64_t channels = s.heads * s.width;
  for (int64_t b = 0; b < s.batch; ++b)
    for (int64_t h = 0; h < s.heads; ++h)
      for (int64_t i = 0; i < s.queries; ++i)
        body(b, i,
             AttentionQuery{.q = (b * s.queries + i) * channels + h * s.width,
                            .k = b * s.keys * channels + h * s.width,
                            .key_step = channels,
                            .row = (b * s.heads + h) * s.queries + i});
}

template <class Args>
bool attention_sees(const Args& args, int64_t b, int64_t i, int64_t j) {
  const AttentionShape& s = args.shape;
  return (s.mask == AttentionMask::none || j <= i) &&
         (args.key_mask == nullptr || args.key_mask[b * s.keys + j] != 0);
}

template <class T>
T attention_dot(const T* a, const T* b, int64_t n) {
  T sum = 0;
  for (int64_t d = 0; d < n; ++d) sum += a[d] * b[d];
  return sum;
}

template <class T>
void attention(const AttentionArgs<T>& args) {
  const AttentionShape& s = args.shape;
  constexpr T kInf = std::numeric_limits<T>::infinity();
  for_attention_queries(s, [&](int64_t b, int64_t i, const AttentionQuery& at) {
    const auto score = [&](int64_t j) {
      return static_cast<T>(s.scale) * attention_dot(args.q + at.q, args.k + at.key(j), s.width);
    };
    T max = -kInf, sum = 0;
    for (int64_t j = 0; j < s.keys; ++j) {
      if (!attention_sees(args, b, i, j)) continue;
      const T x = score(j);
      if (x > max || std::isnan(x)) max = x;
    }
    T* out = args.out + at.q;
    std::fill_n(out, s.width, T{0});
    args.log_sum[at.row] = kInf;
    if (max == -kInf) return;
    for (int64_t j = 0; j < s.keys; ++j) {
      if (!attention_sees(args, b, i, j)) continue;
      const T p = std::exp(score(j) - max);
      sum += p;
      for (int64_t d = 0; d < s.width; ++d) out[d] += p * args.v[at.key(j) + d];
    }
    for (int64_t d = 0; d < s.width; ++d) out[d] /= sum;
    args.log_sum[at.row] = max + std::log(sum);
  });
}

template <class T>
void attention_backward(const AttentionBackwardArgs<T>& args) {
  const AttentionShape& s = args.shape;
  const T scale = static_cast<T>(s.scale);
  const int64_t channels = s.heads * s.width;
  std::fill_n(args.dq, s.batch * s.queries * channels, T{0});
  std::fill_n(args.dk, s.batch * s.keys * channels, T{0});
  std::fill_n(args.dv, s.batch * s.keys * channels, T{0});
  for_attention_queries(s, [&](int64_t b, int64_t i, const AttentionQuery& at) {
    const T* q = args.q + at.q;
    const T* g = args.g + at.q;
    const T delta = attention_dot(g, args.out + at.q, s.width);
    args.delta[at.row] = delta;
    for (int64_t j = 0; j < s.keys; ++j) {
      if (!attention_sees(args, b, i, j)) continue;
      const int64_t key = at.key(j);
      const T p = std::exp(scale * attention_dot(q, args.k + key, s.width) - args.log_sum[at.row]);
      const T ds = scale * p * (attention_dot(g, args.v + key, s.width) - delta);
      for (int64_t d = 0; d < s.width; ++d) {
        args.dv[key + d] += p * g[d];
        args.dq[at.q + d] += ds * args.k[key + d];
        args.dk[key + d] += ds * q[d];
      }
    }
  });
}

}  // namespace stillpoint::kernels::reference
