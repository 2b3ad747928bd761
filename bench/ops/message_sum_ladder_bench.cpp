// The rungs of kernels/message_sum/ladder on the case that its README reports: 64 boards of 81
// cells with 20 neighbours, 96 channels.
#include <fmt/format.h>

#include "bench/support/bench.h"
#include "bench/support/clock.h"
#include "engine/cuda/runtime.h"
#include "kernels/message_sum/ladder/ladder.h"
#include "kernels/message_sum/message_sum_reference.h"
#include "tests/support/graphs.h"

namespace stillpoint::bench {
namespace {

constexpr int64_t kBoards = 64, kChannels = 96;

// One problem with its outputs, in one dtype on one device.
template <class T>
struct Boards {
  Graph graph;
  Tensor a, c, g, out, da, dc;

  explicit Boards(Device device) : graph(test::sudoku_graph(3).to(device)) {
    const Shape shape = {kBoards, graph.rows(), kChannels};
    const auto make = [&](uint64_t seed) {
      return random(shape, seed).to(DType::f32).to(dtype_of<T>).to(device);
    };
    a = make(1), c = make(2), g = make(3);
    for (Tensor* t : {&out, &da, &dc}) *t = Tensor::empty(shape, {dtype_of<T>, device});
  }
  kernels::MessageSumArgs<T> forward() {
    return {a.data<T>(), c.data<T>(), out.mutable_data<T>(), graph.view(), kBoards, kChannels};
  }
  kernels::MessageSumBackwardArgs<T> backward() {
    return {a.data<T>(),
            c.data<T>(),
            g.data<T>(),
            da.mutable_data<T>(),
            dc.mutable_data<T>(),
            graph.view(),
            graph.transposed_view(),
            kBoards,
            kChannels};
  }
};

// `run(boards)` runs the rung; `results` are the tensors it writes.
template <class Run, class Reference, class Results>
void add_rung(const std::string& name, Device device, Work work, Run run, Reference reference,
              Results results) {
  benchmark::RegisterBenchmark(name.c_str(),
                               [=](benchmark::State& state) {
                                 Boards<double> wanted(Device::cpu);
                                 reference(wanted);
                                 Boards<float> boards(device);
                                 run(boards);
                                 const auto got = results(boards), expected = results(wanted);
                                 for (size_t k = 0; k < got.size(); ++k)
                                   if (!verify(state, got[k], expected[k], 20, "result")) return;
                                 time(state, device, work, Cache::warm, [&] { run(boards); });
                               })
      ->UseManualTime()
      ->Unit(benchmark::kMicrosecond);
}

template <class Rung>
void add_rungs(const Rung& rung, Device device, auto call) {
  const double elements = static_cast<double>(kBoards * 81 * kChannels), messages = 20 * elements;
  const auto name = [&](const char* what) {
    return fmt::format("message_sum/ladder/{}/{}/{}", rung.name, what, stillpoint::name(device));
  };
  add_rung(
      name("forward"), device, {12 * elements, 3 * messages},
      [=](Boards<float>& b) { call(rung.forward, b.forward()); },
      [](Boards<double>& b) { kernels::reference::message_sum(b.forward()); },
      [](auto& b) { return std::vector<Tensor>{b.out}; });
  add_rung(
      name("backward"), device, {20 * elements, 4 * messages},
      [=](Boards<float>& b) { call(rung.backward, b.backward()); },
      [](Boards<double>& b) { kernels::reference::message_sum_backward(b.backward()); },
      [](auto& b) {
        return std::vector<Tensor>{b.da, b.dc};
      });
}

const bool kAdded = [] {
  for (const auto& rung : kernels::kMessageSumCpuLadder)
    add_rungs(rung, Device::cpu, [](auto kernel, const auto& args) { kernel(args); });
#if defined(STILLPOINT_HAVE_CUDA)
  if (timeable(Device::cuda))
    for (const auto& rung : kernels::kMessageSumCudaLadder)
      add_rungs(rung, Device::cuda, [](auto kernel, const auto& args) {
        cuda::check_status(kernel(args, cuda::stream()), "message_sum");
      });
#endif
  return true;
}();

}  // namespace
}  // namespace stillpoint::bench
