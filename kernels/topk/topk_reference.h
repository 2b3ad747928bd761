// topk by insertion into a list in order. In double it is the truth that the tests hold the
// backends to.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/topk/topk.h"

namespace stillpoint::kernels::reference {

template <class T>
bool topk_greater(T a, T b) {
  return a > b || (a != a && b == b);
}

template <class T>
void topk(const TopkArgs<T>& args) {
  const TopkShape& s = args.shape;
  for (int64_t r = 0; r < s.rows; ++r) {
    const T* x = args.x + r * s.n;
    int32_t* picks = args.indices + r * s.k;
    for (int64_t j = 0; j < s.n; ++j) {
      int64_t at = std::min(j, s.k);  // behind the list
      while (at > 0 && topk_greater(x[j], x[picks[at - 1]])) {
        if (at < s.k) picks[at] = picks[at - 1];
        --at;
      }
      if (at < s.k) picks[at] = static_cast<int32_t>(j);
    }
    for (int64_t t = 0; t < s.k; ++t) args.values[r * s.k + t] = x[picks[t]];
  }
}

template <class T>
void topk_gather(const TopkGatherArgs<T>& args) {
  const TopkShape& s = args.shape;
  for (int64_t r = 0; r < s.rows; ++r)
    for (int64_t t = r * s.k; t < (r + 1) * s.k; ++t)
      args.out[t] = args.x[r * s.n + args.indices[t]];
}

template <class T>
void topk_scatter(const TopkScatterArgs<T>& args) {
  const TopkShape& s = args.shape;
  std::fill_n(args.dx, s.rows * s.n, T{0});
  for (int64_t r = 0; r < s.rows; ++r)
    for (int64_t t = r * s.k; t < (r + 1) * s.k; ++t)
      args.dx[r * s.n + args.indices[t]] = args.g[t];
}

}  // namespace stillpoint::kernels::reference
