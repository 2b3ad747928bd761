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
  const double d = sqrt(difference_squares);
  if (!(d <= DBL_MAX && scale <= DBL_MAX)) {
    args.residual[sample] = NAN;
    args.status[sample] = kSolverNotFinite;
    return false;
  }
  const double e = args.relative && d != 0 ? d / scale : d;
  args.residual[sample] = e;
  const bool converged = e <= args.tolerance;
  if (converged) args.status[sample] = kSolverConverged;
  if (!converged && !(d < args.best_difference[sample])) return false;
  args.best_difference[sample] = d;
  args.best_scale[sample] = scale;
  return true;
}

}  // namespace stillpoint::kernels
