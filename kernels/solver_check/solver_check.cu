// solver_check on CUDA: a block per row.
#include "kernels/common/launch.h"
#include "kernels/common/reduce.cuh"
#include "kernels/solver_check/solver_check_verdict.h"

namespace stillpoint::kernels::cuda {
namespace {

constexpr int kThreads = 256;

__global__ void __launch_bounds__(kThreads) check_kernel(SolverCheckArgs<float> args) {
  STILLPOINT_SHARED(bool[1], is_best);
  for (int64_t r = blockIdx.x; r < args.rows; r += gridDim.x) {
    const int64_t b = args.index[r];
    const bool running = args.status[b] == kSolverRunning;
    double difference_squares = 0, squares = 0;
    if (running)
      for (int64_t k = threadIdx.x; k < args.n; k += kThreads) {
        const double f = args.fz[r * args.n + k];
        const double d = f - static_cast<double>(args.z[r * args.n + k]);
        difference_squares = fma(d, d, difference_squares);
        squares = fma(f, f, squares);
      }
    difference_squares = block_sum(difference_squares);
    squares = block_sum(squares);
    if (threadIdx.x == 0) {
      if (running) {
        is_best[0] = solver_verdict(args, b, difference_squares, squares);
      } else {
        args.residual[b] = NAN;
        is_best[0] = false;
      }
    }
    __syncthreads();
    if (is_best[0])
      for (int64_t k = threadIdx.x; k < args.n; k += kThreads)
        args.best[b * args.n + k] = args.z[r * args.n + k];
    __syncthreads();  // is_best and the next row's status have been read
  }
}

__global__ void __launch_bounds__(kThreads) loop_kernel(SolverLoopArgs args) {
  const int32_t iteration = *args.iteration;
  int running = 0;
  for (int64_t b = threadIdx.x; b < args.batch; b += kThreads) {
    args.trace[iteration * args.batch + b] = args.residual[b];
    running |= args.status[b] == kSolverRunning ? 1 : 0;
  }
  running = __syncthreads_or(running);
  if (threadIdx.x != 0) return;
  *args.iteration = iteration + 1;
  if (args.conditional)
    cudaGraphSetConditional(args.condition, running != 0 && iteration + 1 < args.most ? 1 : 0);
}

}  // namespace

Status solver_loop(const SolverLoopArgs& args, Stream stream) {
  return launch(loop_kernel, 1, kThreads, 0, stream, args);
}

Status solver_check(const SolverCheckArgs<float>& args, Stream stream) {
  if (args.rows == 0) return {};
  return launch(check_kernel, blocks_for(args.rows, 1), kThreads, 0, stream, args);
}

}  // namespace stillpoint::kernels::cuda
