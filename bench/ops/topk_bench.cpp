#include <fmt/format.h>

#include "bench/support/bench.h"
#include "engine/ops.h"

namespace stillpoint::bench {
namespace {

bool add_case(int64_t rows, int64_t n, int64_t k) {
  return add(fmt::format("topk/{}x{}/{}", rows, n, k), [=](Device) {
    const auto numbers = static_cast<double>(rows * n), picks = static_cast<double>(rows * k);
    return Problem{.inputs = {random({rows, n}, 1)},
                   .op = [k](std::span<const Tensor> in) { return ops::topk(in[0], k).values; },
                   .forward = {.bytes = 4 * numbers + 8 * picks, .flops = numbers},
                   .backward = {.bytes = 4 * numbers + 8 * picks}};
  });
}

// As many keys for as many queries; the neighbours of a Sudoku's cells; a vocabulary.
const bool kAdded = add_case(4096, 4096, 20) && add_case(16 * 81, 81, 20) &&
                    add_case(64, 50257, 1) && add_case(64, 50257, 256);

}  // namespace
}  // namespace stillpoint::bench
