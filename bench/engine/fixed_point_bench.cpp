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

struct FixedPointProblem {
  explicit FixedPointProblem(TensorOptions options) {
    const auto tensor = [&](const Tensor& t) { return t.to(options.dtype).to(options.device); };
    // Entries within 0.05: a spectral norm of about 0.6.
    w = tensor(ops::affine(random({kWidth, kWidth}, 1), 0.05));
    x = tensor(random({kBatch, kWidth}, 2));
    z0 = Tensor::zeros({kBatch, kWidth}, options);
  }
  Tensor solve(implicit::Loop loop, int iterations) const {
    const NoGrad no_grad;
    return implicit::fixed_point(
               [&](const Tensor& z, const Tensor& in) {
                 return ops::tanh(ops::add(ops::linear(z, w), in));
               },
               z0, x,
               {.solver = implicit::Damped{},
                .forward = {.tolerance = 0, .max_iterations = iterations, .loop = loop}})
        .z;
  }
  Tensor w, x, z0;
};

void run(benchmark::State& state, Device device, implicit::Loop loop, int iterations) {
  const Tensor wanted =
      FixedPointProblem({.dtype = DType::f64}).solve(implicit::Loop::host, iterations);
  const FixedPointProblem problem({.device = device});
  if (!verify(state, problem.solve(loop, iterations), wanted, kWidth, "the fixed point")) return;
  const double rows = kBatch * static_cast<double>(iterations);
  time(state, device, {.bytes = 8 * rows * kWidth, .flops = 2 * rows * kWidth * kWidth},
       Cache::warm, [&] { problem.solve(loop, iterations); });
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
