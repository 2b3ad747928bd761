// The rungs of kernels/refine/ladder on the case that its README reports: 8 steps of 16 boards, 81
// cells with 20 neighbours, 96 channels.
#include <fmt/format.h>

#include <cmath>

#include "bench/support/bench.h"
#include "engine/ops.h"
#include "kernels/refine/ladder/ladder.h"
#include "kernels/refine/refine_reference.h"
#include "tests/support/graphs.h"

namespace stillpoint::bench {
namespace {

constexpr int64_t kBoards = 16, kSteps = 8, kCells = 81, kChannels = 96;

// One problem with its outputs, in one dtype.
template <class T>
struct Boards {
  Graph graph = test::sudoku_graph(3);
  Tensor h, x, g, receiver, receiver_bias, sender, message, state, state_bias;
  Tensor out, saved, dh, dx, dweights, workspace;

  Boards() {
    uint64_t seed = 0;
    // Small weights let rounding errors fade, and the bias keeps every relu open: next to its kink
    // float32 and float64 may take different sides. Messages are small so that sums of their
    // gradients do not cancel.
    const double scale = 0.25 / std::sqrt(static_cast<double>(kChannels));
    const auto make = [&](Shape shape, double factor, double shift = 0) {
      const Tensor t = ops::affine(random(std::move(shape), ++seed), factor, shift);
      return t.to(DType::f32).to(dtype_of<T>);
    };
    h = make({kBoards, kCells, kChannels}, 1);
    x = make({kBoards, kCells, 3 * kChannels}, 1);
    g = make({kSteps, kBoards, kCells, kChannels}, 1);
    receiver = make({kChannels, kChannels}, scale / 10);
    receiver_bias = make({kChannels}, 0.02, 0.12);
    sender = make({kChannels, kChannels}, scale / 10);
    message = make({3 * kChannels, kChannels}, scale);
    state = make({3 * kChannels, kChannels}, scale);
    state_bias = make({3 * kChannels}, 1);
    const auto empty = [](Shape shape) { return Tensor::empty(std::move(shape), {dtype_of<T>}); };
    out = empty(g.shape());
    saved = empty({kernels::refine_saved(size())});
    dh = empty(h.shape());
    dx = empty(x.shape());
    dweights = empty({kernels::refine_parameters(kChannels)});
    workspace = empty({kernels::refine_ladder_workspace(size())});
  }
  static kernels::RefineSize size() {
    return {kSteps, kBoards, kCells, kChannels, kernels::kRefineCpuChunks};
  }
  kernels::RefineWeights<T> weights() const {
    return {receiver.data<T>(), receiver_bias.data<T>(), sender.data<T>(),
            message.data<T>(),  state.data<T>(),         state_bias.data<T>()};
  }
  kernels::RefineArgs<T> forward() {
    return {.h = h.data<T>(),
            .x = x.data<T>(),
            .weights = weights(),
            .out = out.mutable_data<T>(),
            .saved = saved.mutable_data<T>(),
            .workspace = workspace.mutable_data<T>(),
            .pattern = graph.view(),
            .size = size()};
  }
  kernels::RefineBackwardArgs<T> backward() {
    return {.h = h.data<T>(),
            .x = x.data<T>(),
            .weights = weights(),
            .out = out.data<T>(),
            .saved = saved.data<T>(),
            .g = g.data<T>(),
            .dh = dh.mutable_data<T>(),
            .dx = dx.mutable_data<T>(),
            .dweights = dweights.mutable_data<T>(),
            .workspace = workspace.mutable_data<T>(),
            .pattern = graph.view(),
            .transposed = graph.transposed_view(),
            .size = size()};
  }
  std::vector<Tensor> results() const { return {out, dh, dx, dweights}; }
};

constexpr double kElements = kBoards * kSteps * kCells * kChannels;

void run_rung(benchmark::State& state, const kernels::RefineRung& rung, bool both) {
  Boards<double> wanted;
  kernels::reference::refine(wanted.forward());
  kernels::reference::refine_backward(wanted.backward());
  Boards<float> boards;
  rung.forward(boards.forward());
  rung.backward(boards.backward());
  const auto got = boards.results(), expected = wanted.results();
  // A gradient of the receiver's weights adds the messages of all cells, of 20 neighbours each.
  constexpr int64_t kTerms = kBoards * kSteps * kCells * 20;
  for (size_t k = 0; k < got.size(); ++k)
    if (!verify(state, got[k], expected[k], kTerms, "result")) return;
  const double products = 16 * kChannels * kElements;
  if (both) {
    time(state, Device::cpu, {4 * 20 * kElements, 3 * products}, Cache::warm, [&] {
      rung.forward(boards.forward());
      rung.backward(boards.backward());
    });
  } else {
    time(state, Device::cpu, {4 * 8 * kElements, products}, Cache::warm,
         [&] { rung.forward(boards.forward()); });
  }
}

const bool kAdded = [] {
  for (const kernels::RefineRung& rung : kernels::kRefineCpuLadder)
    for (const bool both : {false, true})
      benchmark::RegisterBenchmark(
          fmt::format("refine/ladder/{}/{}/cpu", rung.name, both ? "gradient" : "forward").c_str(),
          [rung, both](benchmark::State& state) { run_rung(state, rung, both); })
          ->UseManualTime()
          ->Unit(benchmark::kMicrosecond);
  return true;
}();

}  // namespace
}  // namespace stillpoint::bench
