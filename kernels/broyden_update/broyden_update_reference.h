// broyden_update by its formula. In double it is the truth that the tests hold the backends to.
#pragma once

#include <cstdint>

#include "kernels/broyden_update/broyden_update.h"
#include "kernels/solver_check/solver_check.h"

namespace stillpoint::kernels::reference {

template <class T>
void broyden_update(const BroydenUpdateArgs<T>& args) {
  const int64_t n = args.n, m = args.memory;
  const auto dot = [n](const T* x, const T* y) {
    double sum = 0;
    for (int64_t k = 0; k < n; ++k) sum += static_cast<double>(x[k]) * static_cast<double>(y[k]);
    return sum;
  };
  for (int64_t r = 0; r < args.rows; ++r) {
    const int64_t b = args.index[r];
    const T *z = args.z + r * n, *fz = args.fz + r * n;
    T *next = args.next + r * n, *s = args.steps + b * m * n;
    double* squares = args.squares + b * m;
    if (args.status[b] != kSolverRunning) {
      for (int64_t k = 0; k < n; ++k) next[k] = z[k];
      continue;
    }
    int32_t c = args.count[b] < m ? args.count[b] : 0;
    T* v = s + c * n;
    for (int64_t k = 0; k < n; ++k) v[k] = fz[k] - z[k];
    for (int32_t j = 0; j + 1 < c; ++j) {
      const T factor = static_cast<T>(broyden_factor(dot(s + j * n, v), squares[j]));
      for (int64_t k = 0; k < n; ++k) v[k] += factor * s[(j + 1) * n + k];
    }
    if (c > 0) {
      const double denominator = 1 - broyden_factor(dot(s + (c - 1) * n, v), squares[c - 1]);
      if (broyden_accepts(denominator)) {
        for (int64_t k = 0; k < n; ++k) v[k] *= static_cast<T>(1 / denominator);
      } else {
        c = 0;
        v = s;
        for (int64_t k = 0; k < n; ++k) v[k] = fz[k] - z[k];
      }
    }
    for (int64_t k = 0; k < n; ++k) next[k] = z[k] + v[k];
    squares[c] = dot(v, v);
    args.count[b] = c + 1;
  }
}

}  // namespace stillpoint::kernels::reference
