// Sampling neighbours from attention. The law of a draw is part of its type, and so is what its
// probability may be taken for: scoring draws by another law does not compile.
//
//   auto drawn = sample(q, k, PlackettLuce{.count = 7}, random);
//   Tensor score = ordered_score(drawn);   // [B, N]: d score is the estimator's factor
#pragma once

#include <cstdint>
#include <utility>

#include "engine/random.h"
#include "engine/tensor.h"

namespace stillpoint {

// The largest scores, largest first: nothing is drawn. For use after training.
struct TopScores {
  int64_t count;
};
// Without replacement, one after the other, each by the softmax over the keys that remain.
struct PlackettLuce {
  int64_t count;
};
// Independently by the softmax over all keys.
struct WithReplacement {
  int64_t count;
};
// A set, with probability proportional to the product of its keys' exp(score): conditional
// Bernoulli (kernels/k_subset/k_subset.h).
struct KSubset {
  int64_t count;
  // Sets for every query, which cost little more than one: the sample is of B draws batches, those
  // of batch b from b draws on.
  int64_t draws = 1;
};

template <class Law>
struct Sample {
  // For the ops alone: whoever says the law answers for it.
  explicit Sample(Tensor drawn, Tensor log_p, Tensor log_sum)
      : indices(std::move(drawn)), log_prob(std::move(log_p)), log_normaliser(std::move(log_sum)) {}

  Tensor indices;  // [B, N, count] int32; -1 where there was nothing left to draw
  // log of the probability of each draw given those before it: [B, N, count], differentiable once
  // in q and k; 0 where the index is -1. KSubset: of the set, [B, N].
  Tensor log_prob;
  // log sum exp of a query's scores: [B, N], a constant. KSubset: log of the sum over sets.
  Tensor log_normaliser;
};

struct SampleOptions {
  double temperature = 1.0;
  Tensor key_mask = {};  // [B, M] int32: nobody sees the keys with 0; undefined: all are seen
};

// Draws `law.count` of M keys for each of N queries, whose score is q . k / (sqrt(width)
// temperature): q [B, N, width], k [B, M, width], width up to 128, count up to 64 and up to M.
// Memory is linear in N and M but for KSubset. The same (seed, position) of `random`, which moves
// on, and the same scores give the same picks on every device. A NaN or infinite score makes its
// row's indices -1 and its log_prob NaN.
Sample<TopScores> sample(const Tensor& q, const Tensor& k, TopScores law,
                         const SampleOptions& options = {});
Sample<PlackettLuce> sample(const Tensor& q, const Tensor& k, PlackettLuce law, Philox& random,
                            const SampleOptions& options = {});
Sample<WithReplacement> sample(const Tensor& q, const Tensor& k, WithReplacement law,
                               Philox& random, const SampleOptions& options = {});
// Picks ascend. Scores and their gradient are [B, N, M] in memory here, and may be given instead of
// q and k; rounding decides on picks as it may, a chance of 1e-5 a key at most.
Sample<KSubset> sample(const Tensor& q, const Tensor& k, KSubset law, Philox& random,
                       const SampleOptions& options = {});
Sample<KSubset> sample(const Tensor& scores, KSubset law, Philox& random,
                       const SampleOptions& options = {});

// q . k: [B, N, width] and [B, M, width] -> [B, N, M], once differentiable. What KSubset draws by,
// over sqrt(width). Refuses what `sample` refuses.
Tensor attention_scores(const Tensor& q, const Tensor& k);

// log of the probability of a row's draws: [B, N]. Of Plackett and Luce's in the order in which
// they were drawn, or of the set of them in any order, whose gradient varies less where what is
// done with the draws does not depend on their order. Once differentiable.
Tensor ordered_score(const Sample<PlackettLuce>& sample);
Tensor set_score(const Sample<PlackettLuce>& sample);
Tensor score(const Sample<KSubset>& sample);
Tensor score(const Sample<WithReplacement>& sample);

}  // namespace stillpoint
