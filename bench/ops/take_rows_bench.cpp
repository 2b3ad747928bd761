#include <fmt/format.h>

#include "bench/support/bench.h"
#include "engine/implicit/solver_state.h"

namespace stillpoint::bench {
namespace {

// Every second row.
bool add_case(int64_t rows, int64_t n) {
  return add(
      fmt::format("take_rows/{}x{}", rows, n),
      [=](Device) {
        std::vector<int32_t> index;
        for (int64_t r = 0; r < rows; r += 2) index.push_back(static_cast<int32_t>(r));
        return Problem{
            .inputs = {random({rows, n}, 1), Tensor::from(index, {(rows + 1) / 2})},
            .op = [](std::span<const Tensor> in) { return implicit::take_rows(in[0], in[1]); },
            .forward = {.bytes = 4 * static_cast<double>(rows * n)},
            .backward = {}};
      },
      Timed::forward);
}

// The candidates of 64 Sudokus, and the cells.
const bool kAdded = add_case(64, 729 * 32) && add_case(64, 81 * 96);

}  // namespace
}  // namespace stillpoint::bench
