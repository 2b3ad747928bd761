// solver_check by its formula. In double it is the truth that the tests hold the backends to.
#pragma once

#include <cstdint>
#include <limits>

#include "kernels/solver_check/solver_check_verdict.h"

namespace stillpoint::kernels::reference {

template <class T>
void solver_check(const SolverCheckArgs<T>& args) {
  for (int64_t r = 0; r < args.rows; ++r) {
    const int64_t b = args.index[r];
    args.residual[b] = std::numeric_limits<double>::quiet_NaN();
    if (args.status[b] != kSolverRunning) continue;
    double difference_squares = 0, squares = 0;
    for (int64_t k = r * args.n; k < (r + 1) * args.n; ++k) {
      const double f = static_cast<double>(args.fz[k]), d = f - static_cast<double>(args.z[k]);
      difference_squares += d * d;
      squares += f * f;
    }
    if (!solver_verdict(args, b, difference_squares, squares)) continue;
    for (int64_t k = 0; k < args.n; ++k) args.best[b * args.n + k] = args.z[r * args.n + k];
  }
}

}  // namespace stillpoint::kernels::reference
