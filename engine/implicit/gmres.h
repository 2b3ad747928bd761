// Restarted GMRES for u = J^T u + g, every sample with a Krylov space of its own. For the files of
// engine/implicit/ only.
#pragma once

#include "engine/implicit/solve.h"

namespace stillpoint::implicit {

// `transposed` applies J^T to the rows of the active samples; its share and select are solve()'s.
// Starts at u = g. Residuals are those of solve() for u -> J^T u + g, and so is the tolerance; they
// are computed anew after every restart, never taken from the recurrence.
Solved solve_gmres(const Problem& transposed, const Tensor& g, const Gmres& options,
                   const Stopping& stopping);

}  // namespace stillpoint::implicit
