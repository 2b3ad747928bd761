// Reductions on CUDA. Runs of numbers next to each other are read by a warp, long ones by a block;
// where the reduced dimension is not the last, 32 columns at a time by warps that take every
// eighth row.
#include "kernels/reductions/reductions.h"

#include "kernels/common/index.cuh"
#include "kernels/common/launch.h"
#include "kernels/common/reduce.cuh"

namespace stillpoint::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kWarpRun = 1024;  // a longer run is a block's work
constexpr int64_t kMaxBlocks = 65535;

// A sum over chunks of n: task t = (o, chunk) leaves its sum in out[t, :].
struct SumPass {
  const float* x;  // [outer, n, inner]
  float* out;      // [outer, chunks, inner]
  int64_t outer, n, inner, chunk, chunks;
  float scale;

  __device__ __forceinline__ const float* begin(int64_t task) const {
    return x + (task / chunks * n + task % chunks * chunk) * inner;
  }
  __device__ __forceinline__ int64_t length(int64_t task) const {
    const int64_t left = n - task % chunks * chunk;
    return left < chunk ? left : chunk;
  }
};

// inner == 1, one warp per task.
__global__ void __launch_bounds__(kThreads) sum_by_warps(SumPass pass) {
  const int lane = static_cast<int>(threadIdx.x % kWarpSize);
  for (int64_t task = global_thread() / kWarpSize; task < pass.outer * pass.chunks;
       task += grid_threads() / kWarpSize) {
    const float* x = pass.begin(task);
    const int64_t n = pass.length(task);
    float sum = 0;
    for (int64_t k = lane; k < n; k += kWarpSize) sum += x[k];
    sum = warp_sum(sum);
    if (lane == 0) pass.out[task] = pass.scale * sum;
  }
}

// inner == 1, one block per task.
__global__ void __launch_bounds__(kThreads) sum_by_blocks(SumPass pass) {
  for (int64_t task = blockIdx.x; task < pass.outer * pass.chunks; task += gridDim.x) {
    const float* x = pass.begin(task);
    const int64_t n = pass.length(task);
    float sum = 0;
    for (int64_t k = threadIdx.x; k < n; k += kThreads) sum += x[k];
    sum = block_sum(sum);
    if (threadIdx.x == 0) pass.out[task] = pass.scale * sum;
  }
}

// inner > 1: a block of 32 columns by 8 warps per task and tile of columns.
__global__ void __launch_bounds__(kThreads) sum_columns(SumPass pass) {
  constexpr int kWarps = kThreads / kWarpSize;
  STILLPOINT_SHARED(float[kWarps][kWarpSize], partial);
  const int lane = static_cast<int>(threadIdx.x % kWarpSize);
  const int warp = static_cast<int>(threadIdx.x / kWarpSize);
  const int64_t tiles = (pass.inner + kWarpSize - 1) / kWarpSize;
  for (int64_t item = blockIdx.x; item < pass.outer * pass.chunks * tiles; item += gridDim.x) {
    const int64_t task = item / tiles;
    const int64_t column = item % tiles * kWarpSize + lane;
    const float* x = pass.begin(task);
    const int64_t n = pass.length(task);
    float sum = 0;
    if (column < pass.inner)
      for (int64_t k = warp; k < n; k += kWarps) sum += x[k * pass.inner + column];
    partial[warp][lane] = sum;
    __syncthreads();
    if (warp == 0 && column < pass.inner) {
      for (int w = 1; w < kWarps; ++w) sum += partial[w][lane];
      pass.out[task * pass.inner + column] = pass.scale * sum;
    }
    __syncthreads();  // before the next item writes over what is being read
  }
}

unsigned at_most_max(int64_t blocks) {
  return static_cast<unsigned>(blocks < kMaxBlocks ? blocks : kMaxBlocks);
}

Status run_pass(const SumPass& pass, Stream stream) {
  const int64_t tasks = pass.outer * pass.chunks;
  if (pass.inner > 1) {
    const int64_t tiles = (pass.inner + kWarpSize - 1) / kWarpSize;
    return launch(sum_columns, at_most_max(tasks * tiles), kThreads, 0, stream, pass);
  }
  if (pass.chunk > kWarpRun)
    return launch(sum_by_blocks, at_most_max(tasks), kThreads, 0, stream, pass);
  return launch(sum_by_warps, blocks_for(tasks * kWarpSize, kThreads), kThreads, 0, stream, pass);
}

// Element e of [outer, n, inner], taken apart.
template <class Index>
struct Place {
  Index row, outer, column;
  __device__ __forceinline__ Place(int64_t e, Index n, Index inner)
      : row(static_cast<Index>(e) / inner),
        outer(row / n),
        column(static_cast<Index>(e) - row * inner) {}
};

template <class Index>
__global__ void __launch_bounds__(kThreads)
    repeat_kernel(const float* x, float* out, int64_t total, Index n, Index inner, float scale) {
  for (int64_t e = global_thread(); e < total; e += grid_threads()) {
    const Place<Index> at(e, n, inner);
    out[e] = scale * x[static_cast<int64_t>(at.outer) * inner + at.column];
  }
}

// True if the value at `k` comes before the best so far: larger, NaN, or equal and earlier.
__device__ __forceinline__ bool better(float value, int k, float best, int best_k) {
  const bool nan = value != value, best_nan = best != best;
  if (nan != best_nan) return nan;
  if (nan || value == best) return k < best_k;
  return value > best;
}

// Groups of kWidth lanes share one output: 32 along a run, 1 where the columns lie side by side.
template <int kWidth>
__global__ void __launch_bounds__(kThreads) max_kernel(ReduceMaxArgs<float> args) {
  const int lane = static_cast<int>(threadIdx.x % kWidth);
  const int64_t total = args.outer * args.inner;
  for (int64_t to = global_thread() / kWidth; to < total; to += grid_threads() / kWidth) {
    const int64_t o = to / args.inner;
    const float* x = args.x + o * args.n * args.inner + (to - o * args.inner);
    const int n = static_cast<int>(args.n);
    int best_k = lane < n ? lane : 0;
    float best = x[best_k * args.inner];
    for (int k = lane + kWidth; k < n; k += kWidth) {
      const float value = x[k * args.inner];
      if (better(value, k, best, best_k)) best = value, best_k = k;
    }
#pragma unroll
    for (int offset = kWidth / 2; offset > 0; offset /= 2) {
      const float value = __shfl_xor_sync(kFullMask, best, offset);
      const int k = __shfl_xor_sync(kFullMask, best_k, offset);
      if (better(value, k, best, best_k)) best = value, best_k = k;
    }
    if (lane == 0) {
      args.out[to] = best;
      args.index[to] = best_k;
    }
  }
}

template <class Index>
__global__ void __launch_bounds__(kThreads)
    scatter_max_kernel(const float* g, const int32_t* index, float* dx, int64_t total, Index n,
                       Index inner) {
  for (int64_t e = global_thread(); e < total; e += grid_threads()) {
    const Place<Index> at(e, n, inner);
    const int64_t from = static_cast<int64_t>(at.outer) * inner + at.column;
    dx[e] = static_cast<Index>(index[from]) == at.row - at.outer * n ? g[from] : 0.f;
  }
}

}  // namespace

Status reduce_sum(const ReduceSumArgs<float>& args, Stream stream) {
  if (args.outer * args.inner == 0) return {};
  const int64_t chunks = reduce_chunks(args.n, args.inner);
  if (chunks == 1)
    return run_pass({args.x, args.out, args.outer, args.n, args.inner, args.n, 1, args.scale},
                    stream);
  const Status first = run_pass({args.x, args.workspace, args.outer, args.n, args.inner,
                                 reduce_chunk(args.n, args.inner), chunks, 1.f},
                                stream);
  if (!first.ok()) return first;
  return run_pass({args.workspace, args.out, args.outer, chunks, args.inner, chunks, 1, args.scale},
                  stream);
}

Status repeat(const RepeatArgs<float>& args, Stream stream) {
  const int64_t total = args.outer * args.n * args.inner;
  if (total == 0) return {};
  return with_index(total, [&]<class Index>() {
    return launch(repeat_kernel<Index>, blocks_for(total, kThreads), kThreads, 0, stream, args.x,
                  args.out, total, static_cast<Index>(args.n), static_cast<Index>(args.inner),
                  args.scale);
  });
}

Status reduce_max(const ReduceMaxArgs<float>& args, Stream stream) {
  const int64_t total = args.outer * args.inner;
  if (total == 0) return {};
  if (args.inner > 1)
    return launch(max_kernel<1>, blocks_for(total, kThreads), kThreads, 0, stream, args);
  return launch(max_kernel<kWarpSize>, blocks_for(total * kWarpSize, kThreads), kThreads, 0, stream,
                args);
}

Status scatter_max(const ScatterMaxArgs<float>& args, Stream stream) {
  const int64_t total = args.outer * args.n * args.inner;
  if (total == 0) return {};
  return with_index(total, [&]<class Index>() {
    return launch(scatter_max_kernel<Index>, blocks_for(total, kThreads), kThreads, 0, stream,
                  args.g, args.index, args.dx, total, static_cast<Index>(args.n),
                  static_cast<Index>(args.inner));
  });
}

}  // namespace stillpoint::kernels::cuda
