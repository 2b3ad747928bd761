#include <fmt/format.h>

#include <cmath>
#include <vector>

#include "bench/support/bench.h"
#include "engine/ops.h"
#include "models/sudoku/symbol_net.h"

namespace stillpoint::bench {
namespace {

using ops::Precision;

// Rounding to bfloat16 doubles the bits of error where float32 and float64 round to different
// sides: a thousand times the terms allow 32 times the error.
constexpr double kBf16Terms = 1024;

// SymbolNet on 9x9 boards, from random states.
bool add_case(int64_t boards, int64_t channels, int64_t steps,
              Precision precision = Precision::f32) {
  const auto make = [=](Device device) {
    const auto n = 2 * channels, nodes = int64_t{729}, factors = int64_t{324};
    const auto c = static_cast<double>(channels), rows = static_cast<double>(boards * nodes);
    const double share = static_cast<double>(factors) / static_cast<double>(nodes);
    const double products = 2 * (c * c + 6 * c * c + share * (c * c + 2 * c * c));
    const auto t = static_cast<double>(steps);
    const double more = precision == Precision::bf16 ? kBf16Terms : 1;
    return Problem{
        .inputs = {random({boards, nodes, channels}, 1), random({channels, channels}, 2),
                   random({channels}, 3), random({3 * channels, channels}, 4),
                   random({3 * channels}, 5), random({n, 3 * channels}, 6),
                   random({n, 2 * channels}, 7), random({3, n}, 8), random({channels, n}, 9),
                   random({channels}, 10)},
        .op =
            [=, factors = sudoku::exactly_one_factors({}).to(device)](std::span<const Tensor> x) {
              // A sixth of the candidates given, the others open or excluded.
              std::vector<int32_t> kinds;
              for (int64_t k = 0; k < boards * nodes; ++k)
                kinds.push_back(static_cast<int32_t>(k % 6 < 2 ? k % 6 : 2));
              const Tensor clues = Tensor::from(kinds, {boards, nodes}).to(x[0].device());
              // Small weights and large biases keep every relu open: next to its kink float32 and
              // float64 may take different sides.
              const auto small = [](const Tensor& w, double scale) {
                return ops::affine(w, scale / std::sqrt(static_cast<double>(w.dim(-1))));
              };
              return ops::refine_factor(
                  x[0], clues,
                  {small(x[1], 0.25), ops::affine(x[2], 1, 3), small(x[3], 0.02),
                   ops::affine(x[4], 1, 3), small(x[5], 0.25), small(x[6], 0.5),
                   ops::affine(x[7], 1, 8), small(x[8], 1), x[9]},
                  factors, {.steps = steps, .types = {0, 162, 243, 324}, .precision = precision});
            },
        // The states of every step are written, and u and r for the backward.
        .forward = {.bytes = 4 * t * rows * 3 * c, .flops = t * rows * products},
        .backward = {.bytes = 4 * t * rows * 5 * c, .flops = 2 * t * rows * products},
        .terms = c * t * 16 * more,
        .gradient_terms = rows * t * more};
  };
  const bool bf16 = precision == Precision::bf16;
  return add(fmt::format("refine_factor/boards:{}/channels:{}/steps:{}{}", boards, channels, steps,
                         bf16 ? "/bf16" : ""),
             make, Timed::forward_and_gradient, std::span(kDevices, bf16 ? 1 : 2));
}

const bool kAdded = add_case(8, 32, 4) && add_case(64, 32, 4) && add_case(64, 64, 4) &&
                    add_case(32, 48, 4) && add_case(8, 32, 4, Precision::bf16) &&
                    add_case(32, 48, 4, Precision::bf16) && add_case(64, 64, 4, Precision::bf16);

}  // namespace
}  // namespace stillpoint::bench
