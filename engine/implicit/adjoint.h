// The backward of a fixed point. For the files of engine/implicit/ only.
#pragma once

#include <memory>
#include <vector>

#include "engine/implicit/fixed_point.h"

namespace stillpoint::implicit {

// options.output of z, recorded so that its gradient g becomes u^T d/d(inputs, captured) of what is
// on the tape, where u is what options.adjoint makes of g. The tape, which lives until the
// backward, is one application of f to z, or the steps of UnrolledPhantomGradient.
Tensor record_adjoint(const Map& f, Tensor z, std::vector<Tensor> inputs,
                      const FixedPointOptions& options, const std::shared_ptr<Report>& report);

}  // namespace stillpoint::implicit
