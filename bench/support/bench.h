// What every benchmark shares: one problem per case, from which come the timings of the forward and
// of forward plus backward on every device, each verified against the float64 reference before it
// is timed.
//
//   bench::Problem mul(Device) {
//     const double n = 4096 * 96;
//     return {.inputs = {bench::random({4096, 96}, 1), bench::random({4096, 96}, 2)},
//             .op = [](std::span<const Tensor> in) { return ops::mul(in[0], in[1]); },
//             .forward = {.bytes = 12 * n, .flops = n},
//             .backward = {.bytes = 20 * n, .flops = 2 * n}};
//   }
//   const bool kAdded = bench::add("mul/4096x96", mul);
//
// A case is called op/what-is-special; the program appends /forward or /gradient (which is forward
// plus backward), the device, and /cold where the caches were emptied before every call.
#pragma once

#include <benchmark/benchmark.h>

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "engine/tensor.h"

namespace stillpoint::bench {

// What one call must at least move to and from memory, and the arithmetic it does.
struct Work {
  double bytes = 0;
  double flops = 0;
};

struct Problem {
  // float64 inputs (differentiated) and int32 inputs (not), all on the CPU.
  std::vector<Tensor> inputs;
  // Called with the inputs in float64 on the CPU (the reference) or in float32 on the device.
  std::function<Tensor(std::span<const Tensor>)> op;
  Work forward;
  Work backward;  // of the backward alone
  // Numbers added into one element of the output, and of a gradient where those are more: they
  // scale the tolerance of the verification.
  double terms = 1;
  double gradient_terms = 0;
};

enum class Timed : uint8_t { forward, forward_and_gradient };
inline constexpr Device kDevices[] = {Device::cpu, Device::cuda};
// Registers a case. `make(device)` is called when the case runs, for the CPU (the reference) and
// for the device under test, where the graphs that it captures should lie. Always returns true.
using MakeProblem = std::function<Problem(Device)>;
bool add(const std::string& name, MakeProblem make, Timed timed = Timed::forward_and_gradient,
         std::span<const Device> devices = kDevices);

// Uniform in +-1, float64, on the CPU.
Tensor random(Shape shape, uint64_t seed);

// True if `got` agrees with the float64 `wanted`: 16 eps32 sqrt(terms) max(s, |wanted|) in every
// element, where s is the greatest |wanted|, at most 1, so that small values (the gradient of a
// mean) are held to a small bound. If not, the benchmark is skipped with that element as its error.
bool verify(benchmark::State& state, const Tensor& got, const Tensor& wanted, double terms,
            const std::string& what);

enum class Cache : uint8_t { warm, cold };
// Times `call` and sets the counters. CPU: the thread's own processor time with one thread, wall
// clock with more. CUDA: events on the stream. cold: before every call a buffer larger than the
// last-level cache is overwritten.
void time(benchmark::State& state, Device device, Work work, Cache cache,
          const std::function<void()>& call);

}  // namespace stillpoint::bench
