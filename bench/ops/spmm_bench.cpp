#include "bench/support/bench.h"
#include "bench/support/clock.h"
#include "engine/ops.h"
#include "tests/support/graphs.h"

namespace stillpoint::bench {
namespace {

Problem problem(const Graph& graph, int64_t batch, int64_t channels,
                ops::SpmmBackend backend = ops::SpmmBackend::own) {
  const double entries = static_cast<double>(graph.entries());
  const double vectors = static_cast<double>(batch * channels);
  const double dense = vectors * static_cast<double>(graph.rows() + graph.cols());
  return {.inputs = {random({graph.entries()}, 1), random({batch, graph.cols(), channels}, 2)},
          .op = [=](std::span<const Tensor> in) { return ops::spmm(in[0], in[1], graph, backend); },
          .forward = {.bytes = 4 * (entries + dense), .flops = 2 * vectors * entries},
          .backward = {.bytes = 4 * (2 * entries + 2 * dense), .flops = 4 * vectors * entries},
          .terms = entries / static_cast<double>(graph.rows()),
          .gradient_terms = vectors};
}

// cuSPARSE beside the kernel of ours.
void run_library(benchmark::State& state, const Graph& graph, int64_t batch, int64_t channels) {
  const Problem reference = problem(graph, batch, channels);
  const Problem library =
      problem(graph.to(Device::cuda), batch, channels, ops::SpmmBackend::library);
  std::vector<Tensor> inputs;
  for (const Tensor& t : library.inputs) inputs.push_back(t.to(DType::f32).to(Device::cuda));
  if (verify(state, library.op(inputs), reference.op(reference.inputs), library.terms, "output"))
    time(state, Device::cuda, library.forward, Cache::warm, [&] { library.op(inputs); });
}

bool add_case(const std::string& name, Graph (*make)(), int64_t batch, int64_t channels) {
  add("spmm/" + name, [=](Device device) { return problem(make().to(device), batch, channels); });
  if (timeable(Device::cuda))
    benchmark::RegisterBenchmark(
        ("spmm/" + name + "/forward/cusparse").c_str(),
        [=](benchmark::State& state) { run_library(state, make(), batch, channels); })
        ->UseManualTime()
        ->Unit(benchmark::kMicrosecond);
  return true;
}

Graph sudoku() { return test::sudoku_graph(3); }
Graph uneven() { return test::random_graph(20000, 30, 5); }

const bool kAdded = add_case("boards:64/channels:96", sudoku, 64, 96) &&
                    add_case("boards:1/channels:96", sudoku, 1, 96) &&
                    add_case("nodes:20000/channels:64", uneven, 1, 64);

}  // namespace
}  // namespace stillpoint::bench
