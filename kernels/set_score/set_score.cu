// set_score on CUDA: a warp per row, seven points of the quadrature a lane. One lane goes from
// log_prob to weights and back: a few picks' worth of work beside 224 points of each.
#include <cmath>

#include "kernels/common/launch.h"
#include "kernels/common/reduce.cuh"
#include "kernels/set_score/set_score.h"
#include "kernels/set_score/set_score_row.h"

namespace stillpoint::kernels::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kWarps = kThreads / kWarpSize;
constexpr int kPoints = kSetGrid.points / kWarpSize;  // of a lane

// log(1 - exp(-e^y)) and its derivative.
struct Term {
  float log, slope;
};
__device__ __forceinline__ Term term(float y) {
  const float e = expf(y > 5.f ? 5.f : y);  // above, the one is 0 in float, and so is the other
  const float decay = expf(-e);
  if (e < 0.5f) {
    const float part = e > 0.f ? -expm1f(-e) / e : 1.f;
    return {y + logf(part), decay / part};
  }
  const float part = 1.f - decay;
  return {logf(part), decay * e / part};
}

__device__ __forceinline__ float point(int c) {
  const int n = static_cast<int>(threadIdx.x) % kWarpSize + c * kWarpSize;
  return fmaf(static_cast<float>(n), static_cast<float>(kSetGrid.step),
              static_cast<float>(kSetGrid.first));
}

// This lane's shares of the row's integral; returns log of the integral. All lanes call.
__device__ float shares(const float* log_a, int64_t count, float (&share)[kPoints]) {
  float max = -INFINITY, sum = 0.f;
#pragma unroll
  for (int c = 0; c < kPoints; ++c) {
    const float x = point(c);
    share[c] = x - expf(x);
    for (int64_t t = 0; t < count; ++t) share[c] += term(log_a[t] + x).log;
    max = Max{}(share[c], max);
  }
  max = warp_max(max);
#pragma unroll
  for (int c = 0; c < kPoints; ++c) sum += share[c] = expf(share[c] - max);
  sum = warp_sum(sum);
#pragma unroll
  for (int c = 0; c < kPoints; ++c) share[c] /= sum;
  return max + logf(sum * static_cast<float>(kSetGrid.step));
}

// Calls body(row, log weights) for the rows of this warp.
template <class Body>
__device__ __forceinline__ void for_rows(const float* log_prob, int64_t rows, int64_t count,
                                         Body body) {
  STILLPOINT_SHARED(float[kWarps][kSetCount], weights);
  float* log_a = weights[threadIdx.x / kWarpSize];
  for (int64_t row = global_thread() / kWarpSize; row < rows; row += grid_threads() / kWarpSize) {
    __syncwarp();  // all have read the row before
    if (threadIdx.x % kWarpSize == 0) set_log_weights(log_prob + row * count, count, log_a);
    __syncwarp();
    body(row, log_a);
  }
}

__global__ void __launch_bounds__(kThreads) forward_kernel(SetScoreArgs<float> args) {
  for_rows(args.log_prob, args.rows, args.count, [&](int64_t row, const float* log_a) {
    float share[kPoints];
    const float out = shares(log_a, args.count, share);
    if (threadIdx.x % kWarpSize == 0) args.out[row] = out;
  });
}

__global__ void __launch_bounds__(kThreads) backward_kernel(SetScoreBackwardArgs<float> args) {
  STILLPOINT_SHARED(float[kWarps][kSetCount], slopes);
  float* h = slopes[threadIdx.x / kWarpSize];
  const bool first_lane = threadIdx.x % kWarpSize == 0;
  for_rows(args.log_prob, args.rows, args.count, [&](int64_t row, const float* log_a) {
    float share[kPoints];
    (void)shares(log_a, args.count, share);
    for (int64_t t = 0; t < args.count; ++t) {
      float sum = 0.f;
#pragma unroll
      for (int c = 0; c < kPoints; ++c) sum = fmaf(share[c], term(log_a[t] + point(c)).slope, sum);
      sum = warp_sum(sum);
      if (first_lane) h[t] = sum;
    }
    if (first_lane)
      set_row_gradient(args.log_prob + row * args.count, args.count, h, args.g[row],
                       args.d + row * args.count);
  });
}

}  // namespace

Status set_score(const SetScoreArgs<float>& args, Stream stream) {
  if (args.rows == 0) return {};
  return launch(forward_kernel, blocks_for(args.rows, kWarps), kThreads, 0, stream, args);
}

Status set_score_backward(const SetScoreBackwardArgs<float>& args, Stream stream) {
  if (args.rows == 0) return {};
  return launch(backward_kernel, blocks_for(args.rows, kWarps), kThreads, 0, stream, args);
}

}  // namespace stillpoint::kernels::cuda
