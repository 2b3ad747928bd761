// Straight through, the biased contrast to the estimators of surrogate.h. Forward, a node uses the
// neighbours that it drew; backward, gradients pass as if it had used something that has a
// derivative:
//
//   A = drawn + soft - constant(soft)
//
// soft is what the node draws on average (expected_counts; Bengio, Léonard, Courville: "Estimating
// or propagating gradients through stochastic neurons", arXiv 1308.3432), or a softmax of the very
// scores, noise and all, whose largest it drew (gumbel_topk; Jang, Gu, Poole: "Categorical
// reparameterization with Gumbel-softmax", ICLR 2017). With what is drawn on average it is exact
// where costs are linear in A. Where they are not it is biased: a key not drawn is judged by the
// derivative at the draws, not by what drawing it would have changed.
#pragma once

#include <cstdint>

#include "engine/random.h"
#include "engine/tensor.h"

namespace stillpoint::stochastic {

// How often each key was drawn: neighbours [runs, nodes, k] int32 in [0, keys), or negative where
// there is none -> [runs, nodes, keys] float32, a constant. Throws ShapeError, TypeError,
// OptionError.
Tensor draw_counts(const Tensor& neighbours, int64_t keys);

// How often each key is drawn on average in `count` draws with replacement: count softmax(scores),
// differentiable. For draws without, a stand-in that has the same order of keys.
Tensor expected_counts(const Tensor& scores, int64_t count);

// `drawn` with the gradient of `soft`; both have the same shape.
Tensor straight_through(const Tensor& drawn, const Tensor& soft);

// Straight-through Gumbel: to scores [runs, nodes, keys] float32 noise is added, and the `count`
// largest of each node are drawn, which are draws in turn without replacement (Plackett and Luce).
// Backward, in the place of [j was drawn] stands count softmax(noisy scores / temperature). Waits
// for the device. Throws ShapeError, TypeError, OptionError.
struct GumbelDraws {
  Tensor neighbours;  // [runs, nodes, count] int32, in the order of the draws
  Tensor counts;      // [runs, nodes, keys] 1 where drawn, 0 elsewhere; with that gradient
};
GumbelDraws gumbel_topk(const Tensor& scores, int64_t count, double temperature, Philox& random);

}  // namespace stillpoint::stochastic
