#include "bench/support/bench.h"
#include "engine/ops.h"

namespace stillpoint::bench {
namespace {

MakeProblem over(int dim) {
  return [=](Device) {
    const Shape shape = {64 * 81, 96};
    const double elements = 64 * 81 * 96;
    const double reduced = static_cast<double>(shape[static_cast<size_t>(dim)]);
    return Problem{.inputs = {random(shape, 1)},
                   .op = [dim](std::span<const Tensor> in) { return ops::sum(in[0], dim); },
                   .forward = {.bytes = 4 * (elements + elements / reduced), .flops = elements},
                   .backward = {.bytes = 4 * (elements + elements / reduced)},
                   .terms = reduced};
  };
}

Problem all(Device) {
  constexpr int64_t kElements = int64_t{1} << 20;
  return {.inputs = {random({kElements}, 2)},
          .op = [](std::span<const Tensor> in) { return ops::sum(in[0]); },
          .forward = {.bytes = 4.0 * kElements, .flops = kElements},
          .backward = {.bytes = 4.0 * kElements},
          .terms = kElements};
}

Problem digits(Device) {
  constexpr double kRows = 64 * 81;
  return {.inputs = {random({64 * 81, 9}, 3)},
          .op = [](std::span<const Tensor> in) { return ops::max(in[0], 1); },
          .forward = {.bytes = kRows * (4 * 9 + 8), .flops = kRows * 9},
          .backward = {.bytes = kRows * (4 * 9 + 8), .flops = kRows * 9}};
}

const bool kAdded = add("reductions/sum_rows", over(1)) && add("reductions/sum_columns", over(0)) &&
                    add("reductions/sum_all", all) && add("reductions/max_of_9", digits);

}  // namespace
}  // namespace stillpoint::bench
