#include <fmt/format.h>

#include "bench/support/bench.h"
#include "engine/implicit/solver_state.h"

namespace stillpoint::bench {
namespace {

// A first check: every row is the best so far.
Tensor check(std::span<const Tensor> in) {
  implicit::Progress progress(in[0], {});
  progress.check(in[0], in[1], implicit::all_of(in[0].dim(0), in[0].device()));
  const std::vector<double> residuals = progress.residuals();
  return Tensor::from(residuals, {static_cast<int64_t>(residuals.size())})
      .to(in[0].dtype())
      .to(in[0].device());
}

bool add_case(int64_t rows, int64_t n) {
  return add(
      fmt::format("solver_check/{}x{}", rows, n),
      [=](Device) {
        const auto elements = static_cast<double>(rows * n);
        // The state starts as a copy: 8 bytes more.
        return Problem{.inputs = {random({rows, n}, 1), random({rows, n}, 2)},
                       .op = check,
                       .forward = {.bytes = 24 * elements, .flops = 5 * elements},
                       .backward = {},
                       .terms = static_cast<double>(n)};
      },
      Timed::forward);
}

// The candidates of 64 Sudokus, and the cells.
const bool kAdded = add_case(64, 729 * 32) && add_case(64, 81 * 96);

}  // namespace
}  // namespace stillpoint::bench
