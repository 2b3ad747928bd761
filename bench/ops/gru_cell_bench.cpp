#include <fmt/format.h>

#include "bench/support/bench.h"
#include "engine/ops.h"

namespace stillpoint::bench {
namespace {

bool add_case(int64_t rows, int64_t channels) {
  return add(fmt::format("gru_cell/{}x{}", rows, channels), [=](Device) {
    const auto n = static_cast<double>(rows * channels);
    return Problem{.inputs = {random({rows, 3 * channels}, 1), random({rows, 3 * channels}, 2),
                              random({rows, channels}, 3)},
                   .op = [](std::span<const Tensor> x) { return ops::gru_cell(x[0], x[1], x[2]); },
                   .forward = {.bytes = 32 * n, .flops = 11 * n},
                   .backward = {.bytes = 60 * n, .flops = 23 * n}};
  });
}

// The cells of 64 Sudokus, and of one.
const bool kAdded = add_case(64 * 81, 96) && add_case(81, 96);

}  // namespace
}  // namespace stillpoint::bench
