#include <fmt/format.h>

#include "bench/support/bench.h"
#include "bench/support/clock.h"
#include "engine/optim/multi_tensor.h"

namespace stillpoint::bench {
namespace {

constexpr int kTensors = 20;

// The matrices of a network, clipped and stepped again and again.
class Training {
 public:
  Training(int64_t elements, TensorOptions options) {
    const auto place = [&](const Tensor& t) {
      return t.to(DType::f32).to(options.dtype).to(options.device).clone();
    };
    const Tensor zero = Tensor::zeros({elements}, {.dtype = DType::f64});
    for (uint64_t k = 0; k < kTensors; ++k)
      slots_.push_back({.parameter = place(random({elements}, k)),
                        .gradient = place(random({elements}, 100 + k)),
                        .first = place(zero),
                        .second = place(zero),
                        .average = {},
                        .weight_decay = 0.01});
    table_.set(slots_);
  }

  Tensor step() {
    const Tensor norm = optim::gradient_norm(table_, 1.0);
    optim::adamw(table_, {.gradient_scale = norm.alias({}, 1)});
    return slots_.back().parameter;
  }

 private:
  std::vector<optim::Slot> slots_;
  optim::SlotTable table_;
};

void run(benchmark::State& state, int64_t elements, Device device) {
  const Tensor wanted = Training(elements, {.dtype = DType::f64}).step();
  Training training(elements, {.device = device});
  if (!verify(state, training.step(), wanted, 1, "a parameter")) return;
  const double n = kTensors * static_cast<double>(elements);
  time(state, device, {.bytes = 32 * n, .flops = 19 * n}, Cache::warm, [&] { training.step(); });
}

const bool kAdded = [] {
  for (const int64_t elements : {96 * 96, 1 << 18})
    for (const Device device : {Device::cpu, Device::cuda}) {
      if (!timeable(device)) continue;
      const std::string name =
          fmt::format("adamw/{}x{}/{}", kTensors, elements, stillpoint::name(device));
      benchmark::RegisterBenchmark(name.c_str(),
                                   [=](benchmark::State& state) { run(state, elements, device); })
          ->UseManualTime()
          ->Unit(benchmark::kMicrosecond);
    }
  return true;
}();

}  // namespace
}  // namespace stillpoint::bench
