// A whole solve, all of whose iterations are made, by either loop. The loop on the device pays for
// a capture and an instantiation each time: what is left at few iterations.
#include <fmt/format.h>

#include "bench/support/bench.h"
#include "bench/support/clock.h"
#include "engine/autograd.h"
#include "engine/implicit/fixed_point.h"
#include "engine/ops.h"

namespace stillpoint::bench {
namespace {

constexpr int64_t kBatch = 64, kWidth = 96;

Tensor solve(TensorOptions options, implicit::Loop loop, int iterations) {
  const NoGrad no_grad;
  const auto tensor = [&](const Tensor& t) { return t.to(options.dtype).to(options.device); };
  // Entries within 0.05: a spectral norm of about 0.6.
  const Tensor w = tensor(ops::affine(random({kWidth, kWidth}, 1), 0.05));
  const Tensor x = tensor(random({kBatch, kWidth}, 2));
  return implicit::fixed_point(
             [&](const Tensor& z, const Tensor& in) {
               return ops::tanh(ops::add(ops::linear(z, w), in));
             },
             Tensor::zeros({kBatch, kWidth}, options), x,
             {.solver = implicit::Damped{},
              .forward = {.tolerance = 0, .max_iterations = iterations, .loop = loop}})
      .z;
}

void run(benchmark::State& state, Device device, implicit::Loop loop, int iterations) {
  const Tensor wanted = solve({.dtype = DType::f64}, implicit::Loop::host, iterations);
  const TensorOptions options{.device = device};
  if (!verify(state, solve(options, loop, iterations), wanted, kWidth, "the fixed point")) return;
  const double rows = kBatch * static_cast<double>(iterations);
  time(state, device, {.bytes = 8 * rows * kWidth, .flops = 2 * rows * kWidth * kWidth},
       Cache::warm, [&] { solve(options, loop, iterations); });
}

const bool kAdded = [] {
  for (const Device device : kDevices)
    for (const auto& [name, loop] :
         {std::pair{"host", implicit::Loop::host}, {"graph", implicit::Loop::graph}})
      for (const int iterations : {2, 8, 32, 128}) {
        if (!timeable(device) || (device == Device::cpu && loop == implicit::Loop::graph)) continue;
        const std::string title = fmt::format("fixed_point/{}x{}/iterations:{}/{}/{}", kBatch,
                                              kWidth, iterations, name, stillpoint::name(device));
        benchmark::RegisterBenchmark(
            title.c_str(),
            [=, l = loop](benchmark::State& state) { run(state, device, l, iterations); })
            ->UseManualTime()
            ->Unit(benchmark::kMicrosecond);
      }
  return true;
}();

}  // namespace
}  // namespace stillpoint::bench
