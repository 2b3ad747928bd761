#include "bench/support/bench.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <utility>

#include "bench/support/clock.h"
#include "engine/autograd.h"
#include "engine/random.h"

namespace stillpoint::bench {
namespace {

constexpr int kWarmCalls = 8;   // between two looks at the clock, which can cost half a microsecond
constexpr int kColdCalls = 24;  // emptying the caches takes milliseconds, whatever the call takes

// A case made ready on one device: its inputs, and a cotangent for the backward.
struct Ready {
  Problem problem;
  std::vector<Tensor> inputs, floating;
  Tensor cotangent;

  Ready(Problem p, DType dtype, Device device) : problem(std::move(p)) {
    for (const Tensor& t : problem.inputs) {
      if (t.dtype() == DType::i32) {
        inputs.push_back(t.to(device));
        continue;
      }
      // Rounded to float32 first: the reference starts from the same numbers.
      inputs.push_back(t.to(DType::f32).to(dtype).to(device).clone());
      floating.push_back(inputs.back().set_requires_grad());
    }
  }

  Tensor forward() const {
    const NoGrad none;
    return problem.op(inputs);
  }
  std::vector<Tensor> gradient() {
    const Tensor y = problem.op(inputs);
    if (!cotangent) cotangent = random(y.shape(), 99).to(DType::f32).to(y.dtype()).to(y.device());
    return vjp({&y, 1}, floating, {&cotangent, 1});
  }
};

void run_forward(benchmark::State& state, const MakeProblem& make, Device device, Cache cache) {
  const Tensor wanted = Ready(make(Device::cpu), DType::f64, Device::cpu).forward();
  const Ready ready(make(device), DType::f32, device);
  const Problem& p = ready.problem;
  if (verify(state, ready.forward(), wanted, p.terms, "output"))
    time(state, device, p.forward, cache, [&] { ready.forward(); });
}

void run_gradient(benchmark::State& state, const MakeProblem& make, Device device) {
  const std::vector<Tensor> wanted = Ready(make(Device::cpu), DType::f64, Device::cpu).gradient();
  Ready ready(make(device), DType::f32, device);
  const Problem& p = ready.problem;
  const std::vector<Tensor> got = ready.gradient();
  for (size_t k = 0; k < got.size(); ++k)
    if (!verify(state, got[k], wanted[k], std::max(p.terms, p.gradient_terms),
                fmt::format("gradient of input {}", k)))
      return;
  const Work both{p.forward.bytes + p.backward.bytes, p.forward.flops + p.backward.flops};
  time(state, device, both, Cache::warm, [&] { ready.gradient(); });
}

}  // namespace

bool add(const std::string& name, MakeProblem make, Timed timed, std::span<const Device> devices) {
  const auto shared = std::make_shared<const MakeProblem>(std::move(make));
  const auto reg = [](const std::string& full, auto body) {
    return benchmark::RegisterBenchmark(full.c_str(), body)
        ->UseManualTime()
        ->Unit(benchmark::kMicrosecond);
  };
  for (const Device device : devices) {
    if (!timeable(device)) continue;
    const char* on = stillpoint::name(device);
    reg(fmt::format("{}/forward/{}", name, on), [shared, device](benchmark::State& state) {
      run_forward(state, *shared, device, Cache::warm);
    });
    reg(fmt::format("{}/forward/{}/cold", name, on), [shared, device](benchmark::State& state) {
      run_forward(state, *shared, device, Cache::cold);
    })->Iterations(kColdCalls);
    if (timed == Timed::forward) continue;
    reg(fmt::format("{}/gradient/{}", name, on),
        [shared, device](benchmark::State& state) { run_gradient(state, *shared, device); });
  }
  return true;
}

Tensor random(Shape shape, uint64_t seed) {
  Philox source(seed, 7);
  std::vector<double> v(static_cast<size_t>(numel(shape)));
  for (double& x : v) x = 2.0 * source.uniform() - 1.0;
  return Tensor::from(v, std::move(shape));
}

bool verify(benchmark::State& state, const Tensor& got, const Tensor& wanted, double terms,
            const std::string& what) {
  if (got.shape() != wanted.shape()) {
    state.SkipWithError(fmt::format("{} has shape {}, the reference {}", what,
                                    to_string(got.shape()), to_string(wanted.shape()))
                            .c_str());
    return false;
  }
  // NaN fails the comparison.
  const std::vector<double> g = got.to(Device::cpu).to(DType::f64).to_vector<double>();
  const std::vector<double> w = wanted.to_vector<double>();
  const double unit = 16 * std::numeric_limits<float>::epsilon() * std::sqrt(std::max(1.0, terms));
  double scale = 0;
  for (const double x : w) scale = std::max(scale, std::abs(x));
  scale = std::min(scale, 1.0);
  for (size_t k = 0; k < w.size(); ++k) {
    if (std::abs(g[k] - w[k]) <= unit * std::max(scale, std::abs(w[k]))) continue;
    state.SkipWithError(
        fmt::format("{} element {} is {}, the reference {}", what, k, g[k], w[k]).c_str());
    return false;
  }
  return true;
}

void time(benchmark::State& state, Device device, Work work, Cache cache,
          const std::function<void()>& call) {
  if (cache == Cache::cold) {
    for ([[maybe_unused]] auto _ : state) {
      empty_caches(device);
      state.SetIterationTime(seconds(device, 1, call));
    }
  } else {
    for ([[maybe_unused]] auto _ : state)
      state.SetIterationTime(seconds(device, kWarmCalls, call) / kWarmCalls);
  }
  using benchmark::Counter;
  state.counters["B/s"] = Counter(work.bytes, Counter::kIsIterationInvariantRate);
  state.counters["FLOP/s"] = Counter(work.flops, Counter::kIsIterationInvariantRate);
}

}  // namespace stillpoint::bench
