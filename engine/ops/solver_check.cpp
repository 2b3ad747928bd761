#include "kernels/solver_check/solver_check.h"

#include <limits>

#include "engine/dispatch.h"
#include "engine/implicit/solver_state.h"
#include "kernels/solver_check/solver_check_reference.h"

namespace stillpoint::implicit {

Progress::Progress(const Tensor& z0, const Stopping& stopping)
    : stopping_(stopping),
      best_(z0.detach().clone()),
      status_(Tensor::zeros({z0.dim(0)}, {DType::i32, z0.device()})),
      residual_(stopping.look_every * z0.dim(0), z0.device(),
                std::numeric_limits<double>::quiet_NaN()),
      best_difference_(z0.dim(0), z0.device(), std::numeric_limits<double>::infinity()),
      best_scale_(z0.dim(0), z0.device(), 0.0) {}

void Progress::check(const Tensor& z, const Tensor& fz, const Active& active) {
  const int64_t slot = checks_++ % stopping_.look_every;
  const int64_t rows = active.size();
  STILLPOINT_DISPATCH(solver_check, z, ([&]<class T>() {
                        return kernels::SolverCheckArgs<T>{
                            .z = z.data<T>(),
                            .fz = fz.data<T>(),
                            .index = active.index.data<int32_t>(),
                            .best = best_.mutable_data<T>(),
                            .residual = residual_.data() + slot * best_.dim(0),
                            .best_difference = best_difference_.data(),
                            .best_scale = best_scale_.data(),
                            .status = status_.mutable_data<int32_t>(),
                            .rows = rows,
                            .n = rows == 0 ? 0 : z.numel() / rows,
                            .tolerance = stopping_.tolerance,
                            .relative = stopping_.residual == Residual::relative};
                      }));
}

DeviceTrace::DeviceTrace(int64_t batch, int max_iterations)
    : batch_(batch),
      max_iterations_(max_iterations),
      trace_(max_iterations * batch, Device::cuda, std::numeric_limits<double>::quiet_NaN()),
      iteration_(Tensor::zeros({1}, {DType::i32, Device::cuda})) {}

void DeviceTrace::end_iteration(const Progress& progress, std::optional<uint64_t> condition) {
  [[maybe_unused]] const kernels::SolverLoopArgs args{
      .residual = progress.residual().data(),
      .status = progress.status().data<int32_t>(),
      .trace = trace_.data(),
      .iteration = iteration_.mutable_data<int32_t>(),
      .condition = condition.value_or(0),
      .conditional = condition.has_value(),
      .batch = batch_,
      .most = max_iterations_};
#if defined(STILLPOINT_HAVE_CUDA)
  cuda::check_status(kernels::cuda::solver_loop(args, cuda::stream()), "solver_loop");
#endif
}

int DeviceTrace::iterations() const { return iteration_.to_vector<int32_t>()[0]; }

}  // namespace stillpoint::implicit
