// rms_norm on CUDA: 8 lanes per row where channels are few, else a warp. The backward's block keeps
// to one group of rows, so that it can add up their share in the weight's gradient while they are
// still in the cache.
#include "kernels/common/launch.h"
#include "kernels/common/reduce.cuh"
#include "kernels/rms_norm/rms_norm.h"

namespace stillpoint::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kFewChannels = 32;
constexpr int kLanes = kThreads / kWarpSize;  // threads that share a channel of dw

template <class Args>
__device__ __forceinline__ float s_at(const Args& args, int64_t at) {
  return args.residual == nullptr ? args.x[at] : args.x[at] + args.residual[at];
}
template <class Args>
__device__ __forceinline__ float weighted(const Args& args, float v, int64_t k) {
  return args.weight == nullptr ? v : v * args.weight[k];
}

template <int kWidth>
__global__ void __launch_bounds__(kThreads) forward_kernel(RmsNormArgs<float> args) {
  constexpr int kGroups = kThreads / kWidth;
  const int64_t lane = threadIdx.x % kWidth, group = threadIdx.x / kWidth;
  const int64_t channels = args.channels;
  for (int64_t block = int64_t{blockIdx.x} * kGroups; block < args.rows;
       block += int64_t{gridDim.x} * kGroups) {
    const int64_t row = block + group, first = row * channels;
    const int64_t columns = row < args.rows ? channels : 0;  // the reduction wants every lane
    float squares = 0.f;
    for (int64_t k = lane; k < columns; k += kWidth) {
      const float s = s_at(args, first + k);
      squares = fmaf(s, s, squares);
    }
    const float mean = warp_sum<kWidth>(squares) / static_cast<float>(channels);
    const float r = 1.f / sqrtf(mean + static_cast<float>(args.epsilon));
    for (int64_t k = lane; k < columns; k += kWidth)
      args.out[first + k] = weighted(args, s_at(args, first + k), k) * r;
    if (columns > 0 && lane == 0) args.r[row] = r;
  }
}

// A thread adds every kLanes-th row of one channel; then the lanes are added in order.
__device__ void add_weight_rows(const RmsNormBackwardArgs<float>& args, int64_t first,
                                int64_t last) {
  STILLPOINT_SHARED(float[kLanes][kWarpSize], share);
  const int column = static_cast<int>(threadIdx.x) % kWarpSize;
  const int lane = static_cast<int>(threadIdx.x) / kWarpSize;
  for (int64_t tile = 0; tile < args.channels; tile += kWarpSize) {
    const int64_t k = tile + column;
    float sum = 0.f;
    if (k < args.channels)
      for (int64_t row = first + lane; row < last; row += kLanes) {
        const int64_t at = row * args.channels + k;
        sum = fmaf(args.g[at], s_at(args, at) * args.r[row], sum);
      }
    share[lane][column] = sum;
    __syncthreads();
    if (lane == 0 && k < args.channels) {
      for (int other = 1; other < kLanes; ++other) sum += share[other][column];
      args.dw_groups[blockIdx.x * args.channels + k] = sum;
    }
    __syncthreads();
  }
}

template <int kWidth>
__global__ void __launch_bounds__(kThreads) backward_kernel(RmsNormBackwardArgs<float> args) {
  constexpr int kGroups = kThreads / kWidth;
  const int64_t lane = threadIdx.x % kWidth, group = threadIdx.x / kWidth;
  const int64_t channels = args.channels;
  const int64_t begin = blockIdx.x * kRmsNormRows;
  const int64_t end = min(begin + kRmsNormRows, args.rows);
  for (int64_t block = begin; block < end; block += kGroups) {
    const int64_t row = block + group, first = row * channels;
    const int64_t columns = row < end ? channels : 0;  // the reduction wants every lane
    float dot = 0.f;
    for (int64_t k = lane; k < columns; k += kWidth)
      dot = fmaf(weighted(args, args.g[first + k], k), s_at(args, first + k), dot);
    dot = warp_sum<kWidth>(dot) / static_cast<float>(channels);
    const float r = columns > 0 ? args.r[row] : 0.f;
    const float pull = r * r * dot;
    for (int64_t k = lane; k < columns; k += kWidth) {
      const float gw = weighted(args, args.g[first + k], k);
      args.dx[first + k] = r * fmaf(-s_at(args, first + k), pull, gw);
    }
  }
  if (args.dw_groups != nullptr) add_weight_rows(args, begin, end);
}

}  // namespace

Status rms_norm(const RmsNormArgs<float>& args, Stream stream) {
  if (args.rows == 0 || args.channels == 0) return {};
  const bool few = args.channels <= kFewChannels;
  return launch(few ? forward_kernel<8> : forward_kernel<kWarpSize>,
                blocks_for(args.rows, kThreads / (few ? 8 : kWarpSize)), kThreads, 0, stream, args);
}

Status rms_norm_backward(const RmsNormBackwardArgs<float>& args, Stream stream) {
  if (args.rows == 0 || args.channels == 0) return {};
  return launch(args.channels <= kFewChannels ? backward_kernel<8> : backward_kernel<kWarpSize>,
                static_cast<unsigned>(rms_norm_groups(args.rows)), kThreads, 0, stream, args);
}

}  // namespace stillpoint::kernels::cuda
