#include "bench/support/bench.h"
#include "engine/ops.h"
#include "tests/support/graphs.h"

namespace stillpoint::bench {
namespace {

Problem problem(const Graph& graph, int64_t batch, int64_t channels) {
  const double rows = static_cast<double>(batch * graph.rows() * channels);
  const double cols = static_cast<double>(batch * graph.cols() * channels);
  const double messages = static_cast<double>(batch * graph.entries() * channels);
  return {
      .inputs = {random({batch, graph.rows(), channels}, 1),
                 random({batch, graph.cols(), channels}, 2)},
      .op = [graph](std::span<const Tensor> in) { return ops::message_sum(in[0], in[1], graph); },
      .forward = {.bytes = 4 * (2 * rows + cols), .flops = 3 * messages},
      .backward = {.bytes = 4 * (3 * rows + 2 * cols), .flops = 4 * messages},
      .terms = static_cast<double>(graph.entries()) / static_cast<double>(graph.rows())};
}

MakeProblem sudoku(int64_t boards, int64_t channels) {
  return [=](Device device) { return problem(test::sudoku_graph(3).to(device), boards, channels); };
}

// Rows of uneven length: 20000 nodes that listen to 0 to 30 others.
Problem uneven(Device device) {
  return problem(test::random_graph(20000, 30, 5).to(device), 1, 64);
}

const bool kAdded = add("message_sum/boards:64/channels:96", sudoku(64, 96)) &&
                    add("message_sum/boards:1/channels:96", sudoku(1, 96)) &&
                    add("message_sum/nodes:20000/channels:64", uneven);

}  // namespace
}  // namespace stillpoint::bench
