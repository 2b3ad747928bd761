#include <fmt/format.h>

#include <cmath>

#include "bench/support/bench.h"
#include "engine/sampling.h"

namespace stillpoint::bench {
namespace {

bool add_case(int64_t rows, int64_t keys, int64_t count, int64_t draws) {
  return add(fmt::format("k_subset/{}x{}/{}/{}", rows, keys, count, draws), [=](Device) {
    const auto scores = static_cast<double>(rows * keys);
    return Problem{.inputs = {random({1, rows, keys}, 1)},
                   .op =
                       [=](std::span<const Tensor> x) {
                         Philox random_numbers(1);
                         return score(sample(x[0], KSubset{count, draws}, random_numbers));
                       },
                   .forward = {.bytes = 4 * scores * static_cast<double>(1 + draws),
                               .flops = scores * (6.0 * static_cast<double>(count) + 200)},
                   .backward = {.bytes = 4 * scores * static_cast<double>(1 + draws),
                                .flops = 2 * scores * static_cast<double>(draws)},
                   .terms = static_cast<double>(keys * count)};
  });
}

// The cells of 16 Sudokus, each with 20 neighbours, drawn once and four times.
const bool kAdded = add_case(16 * 81, 81, 20, 1) && add_case(16 * 81, 81, 20, 4);

}  // namespace
}  // namespace stillpoint::bench
