// Problems for the tests of refine_factor.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <vector>

#include "engine/graph.h"
#include "engine/ops.h"
#include "engine/random.h"
#include "tests/support/op_test.h"

namespace stillpoint::test::refine_factor {

struct Problem {
  int64_t boards = 2, variables = 12, channels = 5, hidden = 7, kinds = 3;
  int64_t steps = 2;
  std::vector<int32_t> types = {0, 4, 9};  // where each type of factor begins, and their number
  int64_t degree = 3;                      // members of a factor; 0 is any number
  ops::Precision precision = ops::Precision::f32;
};

inline Graph factors_of(const Problem& p) {
  std::vector<std::vector<int32_t>> members;
  Philox random(7);
  for (int32_t f = 0; f < p.types.back(); ++f) {
    std::vector<int32_t>& of_factor = members.emplace_back();
    const int64_t count = p.degree > 0 ? p.degree : random.below(6);
    for (int64_t k = 0; k < count && p.variables > 0; ++k)
      of_factor.push_back(static_cast<int32_t>(random.below(static_cast<uint32_t>(p.variables))));
  }
  return Graph::from_rows(members, p.variables);
}

// h, the weights in the order of FactorWeights, clues.
inline std::vector<Tensor> inputs_of(const Problem& p) {
  const auto types = static_cast<int64_t>(p.types.size()) - 1;
  const int64_t c = p.channels, n = p.hidden;
  const double in_c = 1 / std::sqrt(static_cast<double>(std::max<int64_t>(c, 1)));
  const double in_n = 1 / std::sqrt(static_cast<double>(std::max<int64_t>(n, 1)));
  return {random_tensor({p.boards, p.variables, c}, 1),
          random_tensor({c, c}, 2, in_c),
          random_tensor({c}, 3, 0.3, 0.05),
          random_tensor({types * c, c}, 4, in_c),
          random_tensor({types * c}, 5, 0.3, 0.05),
          random_tensor({n, types * c}, 6, in_c),
          random_tensor({n, 2 * c}, 7, in_c),
          random_tensor({p.kinds, n}, 8, 0.5, 0.05),
          random_tensor({c, n}, 9, in_n),
          random_tensor({c}, 10, 0.3),
          random_indices({p.boards, p.variables}, static_cast<int32_t>(p.kinds), 11)};
}

inline ops::FactorWeights weights_of(std::span<const Tensor> x) {
  return {x[1], x[2], x[3], x[4], x[5], x[6], x[7], x[8], x[9]};
}

inline Tensor fused(std::span<const Tensor> x, const Problem& p, const Graph& factors,
                    ops::States keep = ops::States::all) {
  return ops::refine_factor(
      x[0], x[10], weights_of(x), factors.to(x[0].device()),
      {.steps = p.steps, .types = p.types, .keep = keep, .precision = p.precision});
}

// 4x4: 64 candidates in 64 factors, rows and columns of one type.
inline const Problem kSudoku = {.boards = 3,
                                .variables = 64,
                                .channels = 16,
                                .hidden = 32,
                                .types = {0, 32, 48, 64},
                                .degree = 4};

}  // namespace stillpoint::test::refine_factor
