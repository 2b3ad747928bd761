// Gradients through sampling. A network whose way depends on draws x ~ p(x; theta) has the expected
// loss L = E[sum of its costs c], and (Schulman, Heess, Weber, Abbeel: "Gradient estimation using
// stochastic computation graphs", NeurIPS 2015, arXiv 1506.05254, theorem 1)
//
//   dL/dtheta = E[ sum_c dc/dtheta + sum_j (d log p(x_j)/dtheta) sum of the c downstream of x_j ]
//
// where only costs that x_j can influence count: all others have expectation 0 against its score.
// surrogate_loss is the scalar whose ordinary backward is the term in brackets.
//
//   auto drawn = sample(q, k, PlackettLuce{.count = 7}, random);       // a row per node
//   Tensor costs = ...;                                                // [steps, runs, nodes]
//   Tensor loss = stochastic::surrogate_loss(
//       costs, {{.log_prob = ordered_score(drawn),
//                .hops = stochastic::hops(drawn.indices, steps - 1)}},
//       {.baseline = stochastic::Baseline::others_of_board, .draws = 4});
//   backward(loss);
#pragma once

#include <cstdint>
#include <vector>

#include "engine/tensor.h"

namespace stillpoint::stochastic {

// What sampled nodes leave behind. The draws of one entry are independent of each other; a later
// entry may depend on an earlier one's.
struct Sampled {
  // log of the probability of each draw: [runs, samples], floating, with its gradient.
  Tensor log_prob;
  // Which costs lie downstream, [runs, nodes, samples] int32: costs[t, r, i] may depend on sample j
  // if 0 <= hops[r, i, j] <= t. Undefined: every cost of a run may depend on every sample.
  Tensor hops = {};
};

// What is subtracted from a cost before it counts for a draw. Each cost has its own baseline: the
// mean of the same cost over other runs, which know nothing of this run's draws and leave the
// estimate unbiased. (A mean that includes the run itself scales the score part by 1 - 1/group.)
enum class Baseline : uint8_t {
  none,
  others_in_batch,  // all other runs
  others_of_board,  // the other draws of the same board. Kool, van Hoof, Welling 2019
};

struct SurrogateOptions {
  Baseline baseline = Baseline::none;
  int64_t draws = 1;  // S: run r is draw r % S of board r / S
  // Adds -entropy H, H being the mean entropy of the samples' laws (of ordered draws, if the order
  // is scored), which the score estimates too: dH/dtheta = -E[(d log p/dtheta) log p]. Where a law
  // depends on an earlier draw, that draw's effect on the later entropy is left out.
  double entropy = 0;
  // Samples answer for discount^t of the costs of step t. Below 1, what costs and log_prob depend
  // on follows two losses: costs their mean as ever, log_prob the mean of discounted costs, whose
  // estimate varies less: late costs have many samples upstream, each noise to the others.
  double discount = 1;
};

// A scalar whose gradient is an unbiased estimate of the gradient of
//   E[mean of costs] - entropy H
// in everything that costs and log_prob depend on (with a discount: see there). costs [steps, runs,
// nodes], floating. Its value means nothing; report the mean of the costs. Costs come to the host
// and credits go back: on CUDA that waits. Throws ShapeError or TypeError on tensors that do not
// fit, OptionError where a baseline has no other run to look at.
Tensor surrogate_loss(const Tensor& costs, const std::vector<Sampled>& sampled,
                      const SurrogateOptions& options = {});

// The shortest ways along sampled neighbours: neighbours [runs, nodes, k] int32 in [0, nodes), or
// negative where there is none -> [runs, nodes, nodes] int32 on the CPU. hops[r, i, j] is the
// number of edges from i over its neighbours, their neighbours, ... to j: 0 for j = i, -1 where
// they are more than `limit`. What node i knows after t + 1 messages depends on the neighbours
// drawn by the nodes within t hops. That these nodes are themselves drawn does no harm: whether j
// is among them is settled by the draws of the others, of which j's own is independent. `late` is
// added to all that are counted: the number of first messages that tell nothing, because all nodes
// start alike. Throws ShapeError, TypeError, OptionError.
Tensor hops(const Tensor& neighbours, int64_t limit, int64_t late = 0);

}  // namespace stillpoint::stochastic
