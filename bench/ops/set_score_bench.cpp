#include <fmt/format.h>

#include <cmath>

#include "bench/support/bench.h"
#include "engine/sampling.h"

namespace stillpoint::bench {
namespace {

bool add_case(int64_t rows, int64_t count) {
  return add(fmt::format("set_score/{}x{}", rows, count), [=](Device) {
    std::vector<double> log_prob = random({rows, count}, 1).to_vector<double>();
    for (double& x : log_prob) x = -2 - x;
    const double n = 4.0 * static_cast<double>(rows);
    const double terms = 224.0 * static_cast<double>(rows * count);
    return Problem{
        .inputs = {Tensor::from(log_prob, {rows, count})},
        .op =
            [](std::span<const Tensor> x) { return set_score(Sample<PlackettLuce>({}, x[0], {})); },
        .forward = {.bytes = n * static_cast<double>(count + 1), .flops = 50 * terms},
        .backward = {.bytes = n * static_cast<double>(2 * count + 1), .flops = 100 * terms},
        .terms = static_cast<double>(count)};
  });
}

// The cells of 16 Sudokus, each with 20 neighbours.
const bool kAdded = add_case(16 * 81, 20);

}  // namespace
}  // namespace stillpoint::bench
