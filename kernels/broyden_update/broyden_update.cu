// broyden_update on CUDA: a block per row, all of a step in one launch. A thread keeps to its own
// elements; only the inner products are shared.
#include "kernels/broyden_update/broyden_update.h"
#include "kernels/common/launch.h"
#include "kernels/common/reduce.cuh"
#include "kernels/solver_check/solver_check.h"

namespace stillpoint::kernels::cuda {
namespace {

constexpr int kThreads = 256;

__device__ double block_dot(const float* x, const float* y, int64_t n) {
  double sum = 0;
  for (int64_t k = threadIdx.x; k < n; k += kThreads)
    sum = fma(static_cast<double>(x[k]), static_cast<double>(y[k]), sum);
  return block_sum(sum);
}

__device__ void residual(const float* z, const float* fz, float* v, int64_t n) {
  for (int64_t k = threadIdx.x; k < n; k += kThreads) v[k] = fz[k] - z[k];
}

// Every thread computes the same c and factors: nothing has to be passed around.
__device__ void step_row(const BroydenUpdateArgs<float>& args, int64_t r, int64_t b) {
  const int64_t n = args.n, m = args.memory;
  const float* z = args.z + r * n;
  const float* fz = args.fz + r * n;
  float* s = args.steps + b * m * n;
  double* squares = args.squares + b * m;
  int c = args.count[b] < m ? args.count[b] : 0;
  float* v = s + c * n;
  residual(z, fz, v, n);
  for (int j = 0; j + 1 < c; ++j) {
    const auto factor = static_cast<float>(broyden_factor(block_dot(s + j * n, v, n), squares[j]));
    for (int64_t k = threadIdx.x; k < n; k += kThreads)
      v[k] = fmaf(factor, s[(j + 1) * n + k], v[k]);
  }
  float scale = 1.f;
  if (c > 0) {
    const double denominator = 1 - broyden_factor(block_dot(s + (c - 1) * n, v, n), squares[c - 1]);
    if (broyden_accepts(denominator)) {
      scale = static_cast<float>(1 / denominator);
    } else {
      c = 0;
      v = s;
      residual(z, fz, v, n);
    }
  }
  for (int64_t k = threadIdx.x; k < n; k += kThreads) {
    v[k] *= scale;
    args.next[r * n + k] = z[k] + v[k];
  }
  const double length = block_dot(v, v, n);
  if (threadIdx.x == 0) {  // after the sums, before which everybody has read count and squares
    squares[c] = length;
    args.count[b] = c + 1;
  }
}

__global__ void __launch_bounds__(kThreads) step_kernel(BroydenUpdateArgs<float> args) {
  for (int64_t r = blockIdx.x; r < args.rows; r += gridDim.x) {
    const int64_t b = args.index[r];
    if (args.status[b] == kSolverRunning) {
      step_row(args, r, b);
    } else {
      for (int64_t k = threadIdx.x; k < args.n; k += kThreads)
        args.next[r * args.n + k] = args.z[r * args.n + k];
    }
  }
}

}  // namespace

Status broyden_update(const BroydenUpdateArgs<float>& args, Stream stream) {
  if (args.rows == 0 || args.n == 0) return {};
  return launch(step_kernel, blocks_for(args.rows, 1), kThreads, 0, stream, args);
}

}  // namespace stillpoint::kernels::cuda
