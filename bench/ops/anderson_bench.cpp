#include <fmt/format.h>

#include <optional>
#include <vector>

#include "bench/support/bench.h"
#include "bench/support/clock.h"
#include "engine/implicit/solver_state.h"

namespace stillpoint::bench {
namespace {

constexpr int kMemory = 5;

// One step after another with a full history. Iterates alternate, so that no difference is 0.
class Solve {
 public:
  Solve(const Shape& shape, TensorOptions options)
      : all_(implicit::all_of(shape[0], options.device)),
        running_(Tensor::zeros({shape[0]}, {DType::i32, options.device})) {
    for (uint64_t k = 0; k < 2 * (kMemory + 2); ++k)
      points_.push_back(random(shape, k).to(DType::f32).to(options.dtype).to(options.device));
    stepper_.emplace(implicit::Anderson{.memory = kMemory}, points_[0]);
    for (int k = 0; k < kMemory + 1; ++k) step();
  }

  Tensor step() {
    const size_t k = 2 * static_cast<size_t>(steps_++ % (kMemory + 2));
    return stepper_->step(points_[k], points_[k + 1], all_, running_);
  }

 private:
  implicit::Active all_;
  Tensor running_;
  std::vector<Tensor> points_;
  std::optional<implicit::AndersonStepper> stepper_;
  int64_t steps_ = 0;
};

void run(benchmark::State& state, const Shape& shape, Device device) {
  const Tensor wanted = Solve(shape, {.dtype = DType::f64}).step();
  Solve solve(shape, {.device = device});
  if (!verify(state, solve.step(), wanted, kMemory, "the next iterate")) return;
  const auto n = static_cast<double>(numel(shape));
  time(state, device, {.bytes = (8 * kMemory + 40) * n, .flops = (6 * kMemory + 8) * n},
       Cache::warm, [&] { solve.step(); });
}

// The candidates of 64 Sudokus, and the cells.
const bool kAdded = [] {
  for (const Shape& shape : {Shape{64, 729 * 32}, Shape{64, 81 * 96}})
    for (const Device device : {Device::cpu, Device::cuda}) {
      if (!timeable(device)) continue;
      const std::string name =
          fmt::format("anderson/{}x{}/{}", shape[0], shape[1], stillpoint::name(device));
      benchmark::RegisterBenchmark(name.c_str(),
                                   [=](benchmark::State& state) { run(state, shape, device); })
          ->UseManualTime()
          ->Unit(benchmark::kMicrosecond);
    }
  return true;
}();

}  // namespace
}  // namespace stillpoint::bench
