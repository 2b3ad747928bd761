#include <fmt/format.h>

#include "bench/support/bench.h"
#include "engine/ops.h"

namespace stillpoint::bench {
namespace {

bool add_case(int64_t rows, int64_t channels) {
  return add(fmt::format("rms_norm/{}x{}", rows, channels), [=](Device) {
    const auto n = static_cast<double>(rows * channels);
    return Problem{
        .inputs = {random({rows, channels}, 1), random({channels}, 2), random({rows, channels}, 3)},
        .op = [](std::span<const Tensor> x) { return ops::rms_norm(x[0], x[1], x[2]); },
        .forward = {.bytes = 12 * n, .flops = 5 * n},
        .backward = {.bytes = 16 * n, .flops = 10 * n},
        .terms = static_cast<double>(channels),
        .gradient_terms = static_cast<double>(rows)};
  });
}

// The candidates of 64 Sudokus, and the cells.
const bool kAdded = add_case(64 * 729, 32) && add_case(64 * 81, 96);

}  // namespace
}  // namespace stillpoint::bench
