#include <fmt/format.h>

#include "bench/support/bench.h"
#include "engine/ops.h"

namespace stillpoint::bench {
namespace {

// A layer on the nodes of some boards: x [boards * 81, in] -> [boards * 81, out].
MakeProblem layer(int64_t boards, int64_t in, int64_t out, ops::Activation activation) {
  return [=](Device) {
    const int64_t rows = boards * 81;
    const double m = static_cast<double>(rows), n = static_cast<double>(out),
                 k = static_cast<double>(in);
    return Problem{
        .inputs = {random({rows, in}, 1), random({out, in}, 2), random({out}, 3)},
        .op = [=](std::span<const Tensor> t) { return ops::linear(t[0], t[1], t[2], activation); },
        .forward = {.bytes = 4 * (m * k + n * k + n + m * n), .flops = 2 * m * n * k},
        .backward = {.bytes = 4 * (2 * m * k + 2 * n * k + n + 2 * m * n), .flops = 4 * m * n * k},
        .terms = k,
        .gradient_terms = m};
  };
}

const bool kAdded = [] {
  for (const int64_t boards : {1, 64})
    for (const auto& [in, out] : {std::pair<int64_t, int64_t>{96, 96}, {96, 192}, {96, 288}})
      add(fmt::format("gemm/linear_relu/boards:{}/{}to{}", boards, in, out),
          layer(boards, in, out, ops::Activation::relu));
  return add("gemm/linear/boards:64/96to96", layer(64, 96, 96, ops::Activation::none));
}();

}  // namespace
}  // namespace stillpoint::bench
