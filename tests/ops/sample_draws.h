// What the tests of attention_topk_sample share.
#pragma once

#include <cstdint>
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

}  // namespace stillpoint::test
