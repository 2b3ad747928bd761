#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "bench/support/bench.h"
#include "bench/support/clock.h"
#include "engine/ops.h"
#include "tests/support/graphs.h"

namespace stillpoint::bench {
namespace {

// The naive reference looks at all entries once per column; sorting is fast enough and as
// independent.
bool in_order(const Graph& graph, const Tensor& order) {
  const std::vector<int32_t> columns = graph.indices().to_vector<int32_t>();
  std::vector<int32_t> wanted(columns.size());
  std::iota(wanted.begin(), wanted.end(), 0);
  std::stable_sort(wanted.begin(), wanted.end(), [&](int32_t a, int32_t b) {
    return columns[static_cast<size_t>(a)] < columns[static_cast<size_t>(b)];
  });
  return order.to_vector<int32_t>() == wanted;
}

void run(benchmark::State& state, Device device, const Graph& graph) {
  const Graph here = graph.to(device);
  const auto call = [&] { return ops::transpose_csr(here.offsets(), here.indices(), here.cols()); };
  if (!in_order(graph, call().order)) {
    state.SkipWithError("the entries are not in the order of their columns");
    return;
  }
  const double bytes =
      4.0 * static_cast<double>(4 * graph.entries() + graph.rows() + graph.cols() + 2);
  time(state, device, {.bytes = bytes}, Cache::warm, [&] { call(); });
}

bool add_case(const std::string& name, Graph (*make)()) {
  for (const Device device : {Device::cpu, Device::cuda}) {
    if (!timeable(device)) continue;
    benchmark::RegisterBenchmark(
        fmt::format("transpose_csr/{}/forward/{}", name, stillpoint::name(device)).c_str(),
        [=](benchmark::State& state) { run(state, device, make()); })
        ->UseManualTime()
        ->Unit(benchmark::kMicrosecond);
  }
  return true;
}

const bool kAdded = add_case("sudoku", [] { return test::sudoku_graph(3); }) &&
                    add_case("nodes:20000", [] { return test::random_graph(20000, 30, 5); }) &&
                    add_case("nodes:300000", [] { return test::random_graph(300000, 30, 6); });

}  // namespace
}  // namespace stillpoint::bench
