// The loop of solve() as a CUDA graph. Everything that an iteration leaves for the next lies at
// fixed addresses: the iterate z, the solver's history, the books.
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "engine/cuda/runtime.h"
#include "engine/cuda/while_graph.h"
#include "engine/implicit/solve.h"
#include "kernels/solver_check/solver_check.h"

namespace stillpoint::implicit {
namespace {

bool any_running(const Tensor& status) {
  const std::vector<int32_t> all = status.to_vector<int32_t>();
  return std::find(all.begin(), all.end(), kernels::kSolverRunning) != all.end();
}

std::unique_ptr<cuda::WhileGraph> capture(const std::function<void(uint64_t)>& iteration) {
  try {
    return std::make_unique<cuda::WhileGraph>(iteration);
  } catch (const DeviceError& e) {
    throw DeviceError(fmt::format(
        "fixed_point: with Loop::graph f may not wait for the device, move tensors from "
        "or to the host, or need other memory than in its first call: {}",
        e.what()));
  }
}

}  // namespace

Solved solve_by_graph(const Problem& problem, const Tensor& z0, const Solver& solver,
                      const Stopping& stopping) {
  check<OptionError>(z0.device() == Device::cuda,
                     "fixed_point: Loop::graph is for CUDA, and z0 is on {}; wanted Loop::host",
                     name(z0.device()));
  const int64_t batch = z0.dim(0);
  const Active all = all_of(batch, z0.device());
  Progress progress(z0, stopping);
  DeviceTrace trace(batch, stopping.max_iterations);
  Recorder recorder(batch, stopping);
  const std::unique_ptr<Stepper> stepper = make_stepper(solver, z0);
  Tensor z = z0.detach().clone();
  auto* const place = z.mutable_data<float>();

  const auto iterate = [&](std::optional<uint64_t> condition) {
    const Tensor fz = evaluate(problem, z);
    progress.check(z, fz, all);
    const Tensor next = stepper->step(z, fz, all, progress.status());
    if (next.data<float>() != place)
      cuda::copy_on_device(place, next.data<float>(),
                           z.numel() * static_cast<int64_t>(sizeof(float)));
    trace.end_iteration(progress, condition);
  };
  // The first iteration also leaves in the arena what the captured one will take from it.
  if (batch > 0) iterate({});
  std::unique_ptr<cuda::WhileGraph> loop;
  if (batch > 0 && stopping.max_iterations > 1) {
    loop = capture([&](uint64_t condition) { iterate(condition); });
    if (any_running(progress.status())) loop->launch();
  }

  const int iterations = trace.iterations();
  const std::vector<double> residuals = trace.residuals();
  for (int k = 0; k < iterations; ++k) {
    recorder.count_evaluation(all);
    for (const int32_t sample : all.samples)
      recorder.add(sample, residuals[static_cast<size_t>(k * batch + sample)]);
  }
  return {progress.best(), std::move(recorder).finish(progress.best_differences(),
                                                      progress.best_scales(), z0.dtype())};
}

}  // namespace stillpoint::implicit
