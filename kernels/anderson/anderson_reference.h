// anderson by its formula. In double it is the truth that the tests hold the backends to.
#pragma once

#include <cstdint>

#include "kernels/anderson/anderson_solve.h"
#include "kernels/solver_check/solver_check.h"

namespace stillpoint::kernels::reference {

template <class T>
void anderson(const AndersonArgs<T>& args) {
  const int64_t n = args.n;
  const int m = args.memory;
  const auto dot = [n](const auto& x, const auto& y) {
    double sum = 0;
    for (int64_t k = 0; k < n; ++k) sum += static_cast<double>(x(k)) * static_cast<double>(y(k));
    return sum;
  };
  for (int64_t r = 0; r < args.rows; ++r) {
    const int64_t b = args.index[r];
    const T *z = args.z + r * n, *fz = args.fz + r * n;
    T* next = args.next + r * n;
    if (args.status[b] != kSolverRunning) {
      for (int64_t k = 0; k < n; ++k) next[k] = z[k];
      continue;
    }
    T *moves = args.moves + b * m * n, *dg = args.dg + b * m * n;
    const auto g = [&](int64_t k) { return fz[k] - z[k]; };
    const auto image = [&](int64_t k) { return fz[k]; };
    const auto dg_of = [&](int j) { return [=](int64_t k) { return dg[j * n + k]; }; };
    double* gram = args.gram + b * m * m;
    const T mixing = static_cast<T>(args.mixing);
    int32_t count = args.count[b];
    const int slot = anderson_slot(count, m);
    for (int64_t k = 0; count > 0 && k < n; ++k) {
      T &dg_k = dg[slot * n + k], &move = moves[slot * n + k];
      dg_k = g(k) - dg_k;
      move = z[k] - move + mixing * dg_k;
    }
    if (anderson_far(dot(g, g), dot(image, image), args.begin)) count = 0;
    args.count[b] = count + 1;
    const int columns = anderson_columns(count, m);
    double gamma[kAndersonMemory], scratch[anderson_scratch(kAndersonMemory)];
    for (int j = 0; j < columns; ++j) {
      gram[j * m + slot] = gram[slot * m + j] = dot(dg_of(j), dg_of(slot));
      gamma[j] = dot(dg_of(j), g);
    }
    anderson_solve(gram, m, columns, args.ridge, gamma, scratch, 0, 1, [] {});
    const int next_slot = anderson_slot(count + 1, m);
    for (int64_t k = 0; k < n; ++k) {
      const T residual = g(k);
      T sum = z[k] + mixing * residual;
      for (int j = 0; j < columns; ++j) sum -= static_cast<T>(gamma[j]) * moves[j * n + k];
      dg[next_slot * n + k] = residual;
      moves[next_slot * n + k] = z[k];
      next[k] = sum;
    }
  }
}

}  // namespace stillpoint::kernels::reference
