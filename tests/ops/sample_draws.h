// What the tests of attention_topk_sample share.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <map>
#include <string>
#include <type_traits>
#include <vector>

#include "engine/sampling.h"

namespace stillpoint::test {

inline constexpr uint64_t kSeed = 20261125;

// Draws from the beginning of one sequence.
template <class Law>
Sample<Law> draw(const Tensor& q, const Tensor& k, Law law, const SampleOptions& options = {}) {
  Philox random(kSeed);
  if constexpr (std::is_same_v<Law, TopScores>)
    return sample(q, k, law, options);
  else
    return sample(q, k, law, random, options);
}

// Calls body(name, law) with one law after the other.
template <class Body>
void for_laws(int64_t count, Body&& body) {
  body("top", TopScores{count});
  body("plackett_luce", PlackettLuce{count});
  body("with_replacement", WithReplacement{count});
}

inline std::vector<int32_t> picks(const Tensor& indices) { return indices.to_vector<int32_t>(); }

// ---- frequencies -------------------------------------------------------------------------------

using Outcome = std::vector<int32_t>;
using Outcomes = std::map<Outcome, double>;  // their probabilities, or how often each was drawn

// The statistic over outcomes of which at least 5 are expected, the others together, and what it
// exceeds by chance once in 1,000 times (Wilson and Hilferty's approximation).
struct ChiSquare {
  double statistic = 0, limit = 0;

  ChiSquare(const Outcomes& counts, const Outcomes& wanted, int64_t draws) {
    double freedom = -1, rare = 0, rare_count = 0, known = 0;
    const auto add = [&](double count, double expected) {
      statistic += (count - expected) * (count - expected) / expected;
      freedom += 1;
    };
    for (const auto& [outcome, probability] : wanted) {
      const double expected = probability * static_cast<double>(draws);
      const auto found = counts.find(outcome);
      const double count = found == counts.end() ? 0 : found->second;
      known += count;
      if (expected >= 5)
        add(count, expected);
      else
        rare += expected, rare_count += count;
    }
    if (rare > 0) add(rare_count, rare);
    EXPECT_EQ(known, static_cast<double>(draws)) << "outcomes that cannot be";
    const double share = 2 / (9 * freedom);
    limit = freedom * std::pow(1 - share + 3.0902 * std::sqrt(share), 3);
  }
};

}  // namespace stillpoint::test
