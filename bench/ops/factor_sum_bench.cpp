#include "bench/support/bench.h"
#include "engine/ops.h"
#include "tests/support/graphs.h"

namespace stillpoint::bench {
namespace {

using Sum = Tensor (*)(const Tensor&, const Graph&);

MakeProblem sudoku(Sum op, int64_t boards, int64_t channels) {
  return [=](Device device) {
    const Graph factors = test::sudoku_factors(3).to(device);
    const int64_t from = op == ops::factor_sum ? factors.cols() : factors.rows();
    const double vectors = static_cast<double>(boards * channels);
    const Work work{.bytes = 4 * vectors * static_cast<double>(factors.rows() + factors.cols()),
                    .flops = vectors * static_cast<double>(factors.entries())};
    return Problem{.inputs = {random({boards, from, channels}, 1)},
                   .op = [=](std::span<const Tensor> in) { return op(in[0], factors); },
                   .forward = work,
                   .backward = work,
                   .terms = 9};
  };
}

const bool kAdded =
    add("factor_sum/boards:64/channels:96", sudoku(ops::factor_sum, 64, 96)) &&
    add("factor_sum/boards:1/channels:96", sudoku(ops::factor_sum, 1, 96)) &&
    add("factor_broadcast/boards:64/channels:96", sudoku(ops::factor_broadcast, 64, 96)) &&
    add("factor_broadcast/boards:1/channels:96", sudoku(ops::factor_broadcast, 1, 96));

}  // namespace
}  // namespace stillpoint::bench
