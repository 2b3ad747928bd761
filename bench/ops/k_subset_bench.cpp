#include <fmt/format.h>

#include <cmath>

#include "bench/support/bench.h"
#include "engine/sampling.h"

namespace stillpoint::bench {
namespace {

bool add_case(int64_t rows, int64_t keys, int64_t count) {
  return add(fmt::format("k_subset/{}x{}/{}", rows, keys, count), [=](Device) {
    const auto scores = static_cast<double>(rows * keys);
    return Problem{.inputs = {random({1, rows, keys}, 1)},
                   .op =
                       [=](std::span<const Tensor> x) {
                         Philox draws(1);
                         return score(sample(x[0], KSubset{count}, draws));
                       },
                   .forward = {.bytes = 8 * scores,
                               .flops = scores * (6.0 * static_cast<double>(count) + 200)},
                   .backward = {.bytes = 8 * scores, .flops = scores},
                   .terms = static_cast<double>(keys * count)};
  });
}

// The cells of 16 Sudokus, each with 20 neighbours.
const bool kAdded = add_case(16 * 81, 81, 20);

}  // namespace
}  // namespace stillpoint::bench
