#include <fmt/format.h>

#include "bench/support/bench.h"
#include "bench/support/clock.h"
#include "engine/implicit/solver_state.h"

namespace stillpoint::bench {
namespace {

constexpr int kMemory = 8;

// A batch of problems and points to step between, which no map ties together.
class Solve {
 public:
  Solve(const Shape& shape, TensorOptions options)
      : all_(implicit::all_of(shape[0], options.device)),
        running_(Tensor::zeros({shape[0]}, {DType::i32, options.device})) {
    for (uint64_t k = 0; k <= kMemory; ++k)
      points_.push_back(random(shape, k).to(DType::f32).to(options.dtype).to(options.device));
  }

  // From the beginning: kMemory steps, with 0 to kMemory - 1 held.
  Tensor steps() {
    implicit::BroydenStepper stepper({.memory = kMemory}, points_[0]);
    Tensor next;
    for (size_t k = 0; k < kMemory; ++k)
      next = stepper.step(points_[k], points_[k + 1], all_, running_);
    return next;
  }

 private:
  implicit::Active all_;
  Tensor running_;
  std::vector<Tensor> points_;
};

void run(benchmark::State& state, const Shape& shape, Device device) {
  const Tensor wanted = Solve(shape, {.dtype = DType::f64}).steps();
  Solve solve(shape, {.device = device});
  if (!verify(state, solve.steps(), wanted, 4 * kMemory, "the last iterate")) return;
  const auto n = static_cast<double>(numel(shape));
  const double steps = kMemory, held = steps * (steps - 1) / 2;
  time(state, device, {.bytes = (20 * held + 24 * steps) * n, .flops = (4 * held + 4 * steps) * n},
       Cache::warm, [&] { solve.steps(); });
}

// The candidates of 64 Sudokus, and the cells.
const bool kAdded = [] {
  for (const Shape& shape : {Shape{64, 729 * 32}, Shape{64, 81 * 96}})
    for (const Device device : {Device::cpu, Device::cuda}) {
      if (!timeable(device)) continue;
      const std::string name = fmt::format("broyden_update/{}x{}/{}_steps/{}", shape[0], shape[1],
                                           kMemory, stillpoint::name(device));
      benchmark::RegisterBenchmark(name.c_str(),
                                   [=](benchmark::State& state) { run(state, shape, device); })
          ->UseManualTime()
          ->Unit(benchmark::kMicrosecond);
    }
  return true;
}();

}  // namespace
}  // namespace stillpoint::bench
