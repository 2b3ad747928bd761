// anderson on CUDA: a block per row, all of a step in one launch. Its first warp solves the small
// system. A thread reads in every pass the elements that it wrote itself in the first.
#include <cfloat>

#include "kernels/anderson/anderson_solve.h"
#include "kernels/common/launch.h"
#include "kernels/common/reduce.cuh"
#include "kernels/solver_check/solver_check.h"

namespace stillpoint::kernels::cuda {
namespace {

constexpr int kThreads = 256;

__device__ float residual(const AndersonArgs<float>& args, int64_t r, int64_t k) {
  return args.fz[r * args.n + k] - args.z[r * args.n + k];
}

// The newest difference and move of one row.
__device__ void update_history(const AndersonArgs<float>& args, int64_t r, int64_t b, int slot) {
  const int64_t n = args.n, at = (b * args.memory + slot) * n;
  const auto mixing = static_cast<float>(args.mixing);
  for (int64_t k = threadIdx.x; k < n; k += kThreads) {
    const float dg = residual(args, r, k) - args.dg[at + k];
    args.dg[at + k] = dg;
    args.moves[at + k] = fmaf(mixing, dg, args.z[r * n + k] - args.moves[at + k]);
  }
}

// Whether the row's history is to be forgotten.
__device__ bool far_away(const AndersonArgs<float>& args, int64_t r) {
  double g_squares = 0, fz_squares = 0;
  for (int64_t k = threadIdx.x; k < args.n; k += kThreads) {
    const double g = residual(args, r, k), f = args.fz[r * args.n + k];
    g_squares = fma(g, g, g_squares);
    fz_squares = fma(f, f, fz_squares);
  }
  g_squares = block_sum(g_squares);
  fz_squares = block_sum(fz_squares);
  return anderson_far(g_squares, fz_squares, args.begin);
}

// Row `slot` of the Gram matrix, and gamma's right side.
__device__ void update_gram(const AndersonArgs<float>& args, int64_t r, int64_t b, int slot,
                            int columns, double* gamma) {
  const int64_t n = args.n, m = args.memory;
  const float* history = args.dg + b * m * n;
  const float* newest = history + slot * n;
  double* gram = args.gram + b * m * m;
  for (int j = 0; j < columns; ++j) {
    double with_newest = 0, with_g = 0;
    for (int64_t k = threadIdx.x; k < n; k += kThreads) {
      const double x = history[j * n + k];
      with_newest = fma(x, static_cast<double>(newest[k]), with_newest);
      with_g = fma(x, static_cast<double>(residual(args, r, k)), with_g);
    }
    with_newest = block_sum(with_newest);
    with_g = block_sum(with_g);
    if (threadIdx.x == 0) {
      gram[j * m + slot] = gram[slot * m + j] = with_newest;
      gamma[j] = with_g;
    }
  }
}

// next, and g and z in the slot of the difference and the move to come.
__device__ void mix(const AndersonArgs<float>& args, int64_t r, int64_t b, int columns,
                    int next_slot, const double* gamma) {
  const int64_t n = args.n, first = b * args.memory * n, kept = first + next_slot * n;
  const auto mixing = static_cast<float>(args.mixing);
  for (int64_t k = threadIdx.x; k < n; k += kThreads) {
    const float z = args.z[r * n + k], g = residual(args, r, k);
    float sum = fmaf(mixing, g, z);
    for (int j = 0; j < columns; ++j) {
      sum = fmaf(-static_cast<float>(gamma[j]), args.moves[first + j * n + k], sum);
    }
    args.dg[kept + k] = g;
    args.moves[kept + k] = z;
    args.next[r * n + k] = sum;
  }
}

__global__ void __launch_bounds__(kThreads) step_kernel(AndersonArgs<float> args) {
  STILLPOINT_SHARED(double[kAndersonMemory], gamma);
  STILLPOINT_SHARED(double[anderson_scratch(kAndersonMemory)], scratch);
  for (int64_t r = blockIdx.x; r < args.rows; r += gridDim.x) {
    const int64_t b = args.index[r];
    if (args.status[b] != kSolverRunning) {
      for (int64_t k = threadIdx.x; k < args.n; k += kThreads)
        args.next[r * args.n + k] = args.z[r * args.n + k];
      continue;
    }
    int32_t count = args.count[b];
    const int slot = anderson_slot(count, args.memory);
    if (count > 0) update_history(args, r, b, slot);
    if (args.begin <= DBL_MAX && far_away(args, r)) count = 0;
    const int columns = anderson_columns(count, args.memory);
    update_gram(args, r, b, slot, columns, gamma);
    __syncthreads();
    if (threadIdx.x < kWarpSize)
      anderson_solve(args.gram + b * args.memory * args.memory, args.memory, columns, args.ridge,
                     gamma, scratch, static_cast<int>(threadIdx.x), kWarpSize,
                     [] { __syncwarp(); });
    __syncthreads();
    mix(args, r, b, columns, anderson_slot(count + 1, args.memory), gamma);
    __syncthreads();  // gamma and count have been read
    if (threadIdx.x == 0) args.count[b] = count + 1;
  }
}

}  // namespace

Status anderson(const AndersonArgs<float>& args, Stream stream) {
  if (args.rows == 0 || args.n == 0) return {};
  return launch(step_kernel, blocks_for(args.rows, 1), kThreads, 0, stream, args);
}

}  // namespace stillpoint::kernels::cuda
