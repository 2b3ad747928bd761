// The scalar end of solver_check, the same for every backend: from two sums of squares to the
// sample's numbers.
#pragma once

#include <cfloat>
#include <cmath>

#include "kernels/common/portable.h"
#include "kernels/solver_check/solver_check.h"

namespace stillpoint::kernels {

// Writes the sample's residual, best and status; true if the row is the best so far.
template <class T>
STILLPOINT_HD inline bool solver_verdict(const SolverCheckArgs<T>& args, int64_t sample,
                                         double difference_squares, double squares) {
  const double scale = sqrt(squares);
  double e = sqrt(difference_squares);
  if (args.relative && e != 0) e /= scale;
  args.residual[sample] = e;
  if (!(e <= DBL_MAX)) {
    args.status[sample] = kSolverNotFinite;
    return false;
  }
  if (e <= args.tolerance) args.status[sample] = kSolverConverged;
  if (!(e < args.best_residual[sample])) return false;
  args.best_residual[sample] = e;
  args.best_scale[sample] = scale;
  return true;
}

}  // namespace stillpoint::kernels
