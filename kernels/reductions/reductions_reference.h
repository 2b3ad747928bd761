// Reductions by their formulas. In double they are the truth that the tests hold the backends to.
#pragma once

#include <cstdint>

#include "kernels/reductions/reductions.h"

namespace stillpoint::kernels::reference {

template <class T>
void reduce_sum(const ReduceSumArgs<T>& args) {
  for (int64_t o = 0; o < args.outer; ++o)
    for (int64_t i = 0; i < args.inner; ++i) {
      T sum = 0;
      for (int64_t k = 0; k < args.n; ++k) sum += args.x[(o * args.n + k) * args.inner + i];
      args.out[o * args.inner + i] = args.scale * sum;
    }
}

template <class T>
void repeat(const RepeatArgs<T>& args) {
  for (int64_t o = 0; o < args.outer; ++o)
    for (int64_t k = 0; k < args.n; ++k)
      for (int64_t i = 0; i < args.inner; ++i)
        args.out[(o * args.n + k) * args.inner + i] = args.scale * args.x[o * args.inner + i];
}

template <class T>
void reduce_max(const ReduceMaxArgs<T>& args) {
  for (int64_t o = 0; o < args.outer; ++o)
    for (int64_t i = 0; i < args.inner; ++i) {
      const T* x = args.x + o * args.n * args.inner + i;
      int64_t best = 0;
      for (int64_t k = 1; k < args.n; ++k) {
        const T largest = x[best * args.inner], value = x[k * args.inner];
        if (value > largest || (value != value && largest == largest)) best = k;
      }
      args.out[o * args.inner + i] = x[best * args.inner];
      args.index[o * args.inner + i] = static_cast<int32_t>(best);
    }
}

template <class T>
void scatter_max(const ScatterMaxArgs<T>& args) {
  for (int64_t o = 0; o < args.outer; ++o)
    for (int64_t k = 0; k < args.n; ++k)
      for (int64_t i = 0; i < args.inner; ++i) {
        const int64_t from = o * args.inner + i;
        args.dx[(o * args.n + k) * args.inner + i] = args.index[from] == k ? args.g[from] : T{0};
      }
}

}  // namespace stillpoint::kernels::reference
