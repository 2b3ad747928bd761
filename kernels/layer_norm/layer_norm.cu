// layer_norm on CUDA: 8 lanes per row where channels are few, else a warp. The backward's block
// keeps to one group of rows, so that it can add up their share in the gradients of weight and bias
// while they are still in the cache.
#include "kernels/common/launch.h"
#include "kernels/common/reduce.cuh"
#include "kernels/layer_norm/layer_norm.h"

namespace stillpoint::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kFewChannels = 32;
constexpr int kLanes = kThreads / kWarpSize;  // threads that share a channel of dw and db

template <int kWidth>
__global__ void __launch_bounds__(kThreads) forward_kernel(LayerNormArgs<float> args) {
  constexpr int kGroups = kThreads / kWidth;
  const int64_t lane = threadIdx.x % kWidth, group = threadIdx.x / kWidth;
  const int64_t channels = args.channels;
  const auto n = static_cast<float>(channels);
  for (int64_t block = int64_t{blockIdx.x} * kGroups; block < args.rows;
       block += int64_t{gridDim.x} * kGroups) {
    const int64_t row = block + group, first = row * channels;
    const int64_t columns = row < args.rows ? channels : 0;  // the reductions want every lane
    float sum = 0.f, squares = 0.f;
    for (int64_t k = lane; k < columns; k += kWidth) sum += args.x[first + k];
    const float mean = warp_sum<kWidth>(sum) / n;
    for (int64_t k = lane; k < columns; k += kWidth) {
      const float c = args.x[first + k] - mean;
      squares = fmaf(c, c, squares);
    }
    const float r = 1.f / sqrtf(warp_sum<kWidth>(squares) / n + static_cast<float>(args.epsilon));
    for (int64_t k = lane; k < columns; k += kWidth) {
      float y = (args.x[first + k] - mean) * r;
      if (args.weight != nullptr) y *= args.weight[k];
      if (args.bias != nullptr) y += args.bias[k];
      args.out[first + k] = y;
    }
    if (columns > 0 && lane == 0) {
      args.mean[row] = mean;
      args.r[row] = r;
    }
  }
}

// A thread adds every kLanes-th row of one channel; then the lanes are added in order.
__device__ void add_weight_rows(const LayerNormBackwardArgs<float>& args, int64_t first,
                                int64_t last) {
  STILLPOINT_SHARED(float[2][kLanes][kWarpSize], share);
  const int column = static_cast<int>(threadIdx.x) % kWarpSize;
  const int lane = static_cast<int>(threadIdx.x) / kWarpSize;
  for (int64_t tile = 0; tile < args.channels; tile += kWarpSize) {
    const int64_t k = tile + column;
    float dw = 0.f, db = 0.f;
    if (k < args.channels)
      for (int64_t row = first + lane; row < last; row += kLanes) {
        const int64_t at = row * args.channels + k;
        dw = fmaf(args.g[at], (args.x[at] - args.mean[row]) * args.r[row], dw);
        db += args.g[at];
      }
    share[0][lane][column] = dw;
    share[1][lane][column] = db;
    __syncthreads();
    if (lane < 2 && k < args.channels) {
      float sum = 0.f;
      for (int other = 0; other < kLanes; ++other) sum += share[lane][other][column];
      (lane == 0 ? args.dw_groups : args.db_groups)[blockIdx.x * args.channels + k] = sum;
    }
    __syncthreads();
  }
}

template <int kWidth>
__global__ void __launch_bounds__(kThreads) backward_kernel(LayerNormBackwardArgs<float> args) {
  constexpr int kGroups = kThreads / kWidth;
  const int64_t lane = threadIdx.x % kWidth, group = threadIdx.x / kWidth;
  const int64_t channels = args.channels;
  const auto n = static_cast<float>(channels);
  const int64_t begin = blockIdx.x * kLayerNormRows;
  const int64_t end = min(begin + kLayerNormRows, args.rows);
  for (int64_t block = begin; block < end; block += kGroups) {
    const int64_t row = block + group, first = row * channels;
    const int64_t columns = row < end ? channels : 0;  // the reductions want every lane
    const float mean = columns > 0 ? args.mean[row] : 0.f, r = columns > 0 ? args.r[row] : 0.f;
    const auto weighted = [&](int64_t k) {
      return args.weight == nullptr ? args.g[first + k] : args.g[first + k] * args.weight[k];
    };
    float sum = 0.f, dot = 0.f;
    for (int64_t k = lane; k < columns; k += kWidth) {
      sum += weighted(k);
      dot = fmaf(weighted(k), (args.x[first + k] - mean) * r, dot);
    }
    sum = warp_sum<kWidth>(sum) / n;
    dot = warp_sum<kWidth>(dot) / n;
    for (int64_t k = lane; k < columns; k += kWidth)
      args.dx[first + k] = r * fmaf(-(args.x[first + k] - mean) * r, dot, weighted(k) - sum);
  }
  if (args.dw_groups != nullptr) add_weight_rows(args, begin, end);
}

}  // namespace

Status layer_norm(const LayerNormArgs<float>& args, Stream stream) {
  if (args.rows == 0 || args.channels == 0) return {};
  const bool few = args.channels <= kFewChannels;
  return launch(few ? forward_kernel<8> : forward_kernel<kWarpSize>,
                blocks_for(args.rows, kThreads / (few ? 8 : kWarpSize)), kThreads, 0, stream, args);
}

Status layer_norm_backward(const LayerNormBackwardArgs<float>& args, Stream stream) {
  if (args.rows == 0 || args.channels == 0) return {};
  return launch(args.channels <= kFewChannels ? backward_kernel<8> : backward_kernel<kWarpSize>,
                static_cast<unsigned>(layer_norm_groups(args.rows)), kThreads, 0, stream, args);
}

}  // namespace stillpoint::kernels::cuda
