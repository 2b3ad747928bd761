// One application of f on a tape, and its Jacobian's transpose. For the files of engine/implicit/
// only.
#pragma once

#include <vector>

#include "engine/autograd_node.h"
#include "engine/implicit/fixed_point.h"

namespace stillpoint::implicit {

using autograd::Segment;

// f at z, which is inputs[0] and held, on a tape that begins at the inputs. Throws ShapeError or
// TypeError if f gives something unlike z.
Segment application_at(const Map& f, const Tensor& z, const std::vector<Tensor>& inputs);
// The other way round, for J^T v: everything but z is constant, so that no product pays for
// gradients of parameters.
Segment jacobian_at(const Map& f, const Tensor& z, const std::vector<Tensor>& inputs);
// J^T v of every sample on the tape, which may be used again.
Tensor transposed(const Segment& jacobian, const Tensor& v);

}  // namespace stillpoint::implicit
