#include <fmt/format.h>

#include "bench/support/bench.h"
#include "engine/ops.h"

namespace stillpoint::bench {
namespace {

bool add_case(int64_t entries, int64_t picks, int64_t channels) {
  return add(fmt::format("embedding/{}of{}x{}", picks, entries, channels), [=](Device) {
    std::vector<int32_t> index;
    for (int64_t i = 0; i < picks; ++i) index.push_back(static_cast<int32_t>(i * 7919 % entries));
    const auto n = static_cast<double>(picks * channels);
    return Problem{
        .inputs = {random({entries, channels}, 1), Tensor::from(index, {picks})},
        .op = [](std::span<const Tensor> x) { return ops::embedding(x[0], x[1]); },
        .forward = {.bytes = 8 * n, .flops = 0},
        .backward = {.bytes = 4 * n + 4 * static_cast<double>(entries * channels), .flops = n},
        .gradient_terms = static_cast<double>(picks) / static_cast<double>(entries)};
  });
}

// Blank or digit in the cells of 64 Sudokus; a large vocabulary picked sparsely.
const bool kAdded = add_case(10, 64 * 81, 96) && add_case(30000, 64 * 45, 96);

}  // namespace
}  // namespace stillpoint::bench
