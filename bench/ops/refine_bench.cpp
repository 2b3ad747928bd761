#include <fmt/format.h>

#include <cmath>

#include "bench/support/bench.h"
#include "engine/ops.h"
#include "tests/support/graphs.h"

namespace stillpoint::bench {
namespace {

constexpr int64_t kCells = 81, kDegree = 20, kChannels = 96;

Tensor scaled(Shape shape, uint64_t seed, double scale) {
  return ops::affine(random(std::move(shape), seed), scale);
}

// Flops of one step of one board: products, then messages and gates.
constexpr double kElements = kCells * kChannels;
constexpr double kForward = 16 * kElements * kChannels + 3 * kDegree * kElements + 11 * kElements;
constexpr double kBackward = 32 * kElements * kChannels + 4 * kDegree * kElements + 23 * kElements;

Problem problem(Device device, int64_t boards, int64_t steps, ops::States keep,
                ops::RefineForm form) {
  const Graph graph = test::sudoku_graph(3).to(device);
  // Small weights let rounding errors fade, and the bias keeps every relu open: next to its
  // kink float32 and float64 may take different sides.
  const double scale = 0.25 / std::sqrt(static_cast<double>(kChannels));
  const auto runs = static_cast<double>(boards * steps);
  const bool all = keep == ops::States::all;
  const double state = 4 * kElements * static_cast<double>(boards);
  return {
      .inputs = {random({boards, kCells, kChannels}, 1), random({boards, kCells, 3 * kChannels}, 2),
                 scaled({kChannels, kChannels}, 3, scale / 10),
                 ops::affine(random({kChannels}, 4), 0.02, 0.12),
                 scaled({kChannels, kChannels}, 5, scale / 10),
                 scaled({3 * kChannels, kChannels}, 6, scale),
                 scaled({3 * kChannels, kChannels}, 7, scale), random({3 * kChannels}, 8)},
      .op =
          [=](std::span<const Tensor> in) {
            return ops::refine(in[0], in[1], graph,
                               {.receiver = in[2],
                                .receiver_bias = in[3],
                                .sender = in[4],
                                .message = in[5],
                                .state = in[6],
                                .state_bias = in[7]},
                               {.steps = steps, .keep = keep, .form = form});
          },
      .forward = {.bytes = state * (4 + static_cast<double>(all ? steps : 1)),
                  .flops = runs * kForward},
      .backward = {.bytes = state * (7 + 2 * static_cast<double>(steps)),
                   .flops = runs * kBackward},
      .terms = 8 * kChannels,
      // The messages of all cells, of 20 neighbours each, for the receiver's weights.
      .gradient_terms = static_cast<double>(kCells * kDegree) * runs};
}

bool add_case(int64_t boards, int64_t steps, ops::States keep, ops::RefineForm form) {
  const bool all = keep == ops::States::all;
  return add(
      fmt::format("refine/{}boards:{}/steps:{}{}",
                  form == ops::RefineForm::composed ? "composed/" : "", boards, steps,
                  all ? "" : "/last"),
      [=](Device device) { return problem(device, boards, steps, keep, form); },
      all ? Timed::forward_and_gradient : Timed::forward);
}

// Training on a batch and on a slice of one, evaluation; the same from other ops.
const bool kAdded = [] {
  using ops::RefineForm;
  using ops::States;
  for (const RefineForm form : {RefineForm::fused, RefineForm::composed}) {
    add_case(64, 16, States::all, form);
    add_case(8, 16, States::all, form);
    add_case(64, 32, States::last, form);
  }
  return true;
}();

}  // namespace
}  // namespace stillpoint::bench
