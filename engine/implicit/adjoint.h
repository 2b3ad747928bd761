// The backward of a fixed point. For the files of engine/implicit/ only.
#pragma once

#include <memory>
#include <vector>

#include "engine/implicit/fixed_point.h"

namespace stillpoint::implicit {

// options.output of z, recorded so that its gradient g becomes u^T df/d(inputs, captured), where u
// is what options.adjoint makes of g. Applies f once to z, on a tape that lives until the backward;
// with UnrolledPhantom its steps are on the tape.
Tensor record_adjoint(const Map& f, const Tensor& z, std::vector<Tensor> inputs,
                      const FixedPointOptions& options, const std::shared_ptr<Report>& report);

}  // namespace stillpoint::implicit
