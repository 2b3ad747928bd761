// Straight-through Gumbel, the biased contrast to the estimators of surrogate.h. Forward, a node
// uses the neighbours that it drew; backward, gradients pass as if it had used what it draws on
// average, which has a derivative:
//
//   A = drawn + expected - constant(expected)
//
// (Bengio, Léonard, Courville: "Estimating or propagating gradients through stochastic neurons",
// arXiv 1308.3432; for draws by Gumbel noise Jang, Gu, Poole: "Categorical reparameterization with
// Gumbel-softmax", ICLR 2017.) Where costs are linear in A it is exact and varies far less than a
// score. Where they are not it is biased: a key not drawn is judged by the derivative at the draws,
// not by what drawing it would have changed.
#pragma once

#include <cstdint>

#include "engine/tensor.h"

namespace stillpoint::stochastic {

// How often each key was drawn: neighbours [runs, nodes, k] int32 in [0, keys), or negative where
// there is none -> [runs, nodes, keys] float32, a constant. Throws ShapeError, TypeError,
// OptionError.
Tensor draw_counts(const Tensor& neighbours, int64_t keys);

// How often each key is drawn on average in `count` draws with replacement: count softmax(scores),
// differentiable. For draws without, a stand-in that has the same order of keys.
Tensor expected_counts(const Tensor& scores, int64_t count);

// `drawn` with the gradient of `expected`; both have the same shape.
Tensor straight_through(const Tensor& drawn, const Tensor& expected);

}  // namespace stillpoint::stochastic
