#include <fmt/format.h>

#include "bench/support/bench.h"
#include "engine/ops.h"
#include "tests/support/graphs.h"

namespace stillpoint::bench {
namespace {

bool add_case(const std::string& graph_name, Graph (*make)(), int64_t batch, int64_t heads,
              int64_t width) {
  return add(fmt::format("graph_attention/{}/{}x{}x{}", graph_name, batch, heads, width),
             [=](Device device) {
               const Graph graph = make().to(device);
               const Shape queries{batch, graph.rows(), heads * width};
               const Shape keys{batch, graph.cols(), heads * width};
               const auto elements = static_cast<double>(numel(queries) + numel(keys));
               const auto pairs = static_cast<double>(batch * graph.entries() * heads * width);
               return Problem{.inputs = {random(queries, 1), random(keys, 2), random(keys, 3)},
                              .op =
                                  [=](std::span<const Tensor> x) {
                                    return ops::graph_attention(x[0], x[1], x[2], graph, heads);
                                  },
                              .forward = {.bytes = 8 * elements, .flops = 4 * pairs},
                              .backward = {.bytes = 16 * elements, .flops = 14 * pairs},
                              .terms = static_cast<double>(graph.entries()) /
                                       static_cast<double>(graph.rows())};
             });
}

// The cells of 16 Sudokus, each with its 20 peers, and a larger graph.
const bool kAdded = add_case(
                        "sudoku", [] { return test::sudoku_graph(3); }, 16, 4, 32) &&
                    add_case(
                        "nodes:4096", [] { return test::random_graph(4096, 40, 5); }, 1, 8, 64);

}  // namespace
}  // namespace stillpoint::bench
