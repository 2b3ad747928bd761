#include <fmt/format.h>

#include "bench/support/bench.h"
#include "engine/ops.h"

namespace stillpoint::bench {
namespace {

bool add_case(int64_t batch, int64_t tokens, int64_t heads, int64_t width,
              ops::AttentionMask mask) {
  const bool causal = mask == ops::AttentionMask::causal;
  return add(
      fmt::format("attention/{}x{}x{}x{}{}", batch, tokens, heads, width, causal ? "/causal" : ""),
      [=](Device) {
        const Shape shape{batch, tokens, heads * width};
        const auto elements = static_cast<double>(numel(shape));
        const double keys = static_cast<double>(tokens) / (causal ? 2 : 1);
        return Problem{.inputs = {random(shape, 1), random(shape, 2), random(shape, 3)},
                       .op =
                           [=](std::span<const Tensor> x) {
                             return ops::attention(x[0], x[1], x[2],
                                                   {.heads = heads, .mask = mask});
                           },
                       .forward = {.bytes = 16 * elements, .flops = 4 * elements * keys},
                       .backward = {.bytes = 32 * elements, .flops = 10 * elements * keys},
                       .terms = static_cast<double>(tokens)};
      });
}

// The size that bench/peers compares, its causal half, and the cells of 16 Sudokus.
const bool kAdded = add_case(1, 1024, 8, 64, ops::AttentionMask::none) &&
                    add_case(1, 1024, 8, 64, ops::AttentionMask::causal) &&
                    add_case(16, 81, 4, 32, ops::AttentionMask::none);

}  // namespace
}  // namespace stillpoint::bench
