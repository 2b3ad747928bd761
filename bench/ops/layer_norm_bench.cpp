#include <fmt/format.h>

#include "bench/support/bench.h"
#include "engine/ops.h"

namespace stillpoint::bench {
namespace {

bool add_case(int64_t rows, int64_t channels) {
  return add(fmt::format("layer_norm/{}x{}", rows, channels), [=](Device) {
    const auto n = static_cast<double>(rows * channels);
    return Problem{
        .inputs = {random({rows, channels}, 1), random({channels}, 2), random({channels}, 3)},
        .op = [](std::span<const Tensor> x) { return ops::layer_norm(x[0], x[1], x[2]); },
        .forward = {.bytes = 8 * n, .flops = 8 * n},
        .backward = {.bytes = 12 * n, .flops = 14 * n},
        .terms = static_cast<double>(channels),
        .gradient_terms = static_cast<double>(rows)};
  });
}

// The cells of 64 Sudokus, and the tokens of a small transformer.
const bool kAdded = add_case(64 * 81, 96) && add_case(8 * 1024, 512);

}  // namespace
}  // namespace stillpoint::bench
