// cross_entropy and softmax on CUDA: a group of lanes per row. Few channels (the nine digits of a
// Sudoku cell) take groups of 8, so that a warp works on four rows; more channels take a warp.
#include <cmath>

#include "kernels/common/launch.h"
#include "kernels/common/reduce.cuh"
#include "kernels/cross_entropy/cross_entropy.h"

namespace stillpoint::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kFewChannels = 32;

// One lane of the kWidth lanes that share a row.
template <int kWidth>
struct RowLane {
  static constexpr int kGroups = kThreads / kWidth;  // rows that a block works on at a time

  int lane, group;

  __device__ __forceinline__ RowLane()
      : lane(static_cast<int>(threadIdx.x) % kWidth),
        group(static_cast<int>(threadIdx.x) / kWidth) {}

  __device__ __forceinline__ float max(const float* x, int64_t channels) const {
    float most = -INFINITY;
    for (int64_t k = lane; k < channels; k += kWidth) most = Max{}(x[k], most);
    return warp_max<kWidth>(most);
  }
  __device__ __forceinline__ float sum_exp(const float* x, int64_t channels, float shift) const {
    float sum = 0.f;
    for (int64_t k = lane; k < channels; k += kWidth) sum += expf(x[k] - shift);
    return warp_sum<kWidth>(sum);
  }
};

// Calls body(row lane, row, columns) for all rows of the grid's share. Lanes whose row is past the
// end take part with no columns, because reductions want the whole warp.
template <int kWidth, class Body>
__device__ __forceinline__ void for_rows(int64_t rows, int64_t channels, Body body) {
  const RowLane<kWidth> me;
  const int64_t step = int64_t{gridDim.x} * me.kGroups;
  for (int64_t first = int64_t{blockIdx.x} * me.kGroups; first < rows; first += step) {
    const int64_t row = first + me.group;
    body(me, row < rows ? row : 0, row < rows ? channels : 0);
  }
}

template <int kWidth>
__global__ void __launch_bounds__(kThreads) softmax_kernel(SoftmaxArgs<float> args) {
  for_rows<kWidth>(args.rows, args.channels, [&](auto me, int64_t row, int64_t columns) {
    const float* x = args.x + row * args.channels;
    float* out = args.out + row * args.channels;
    const float shift = me.max(x, columns);
    const float sum = me.sum_exp(x, columns, shift);
    for (int64_t k = me.lane; k < columns; k += kWidth) out[k] = expf(x[k] - shift) / sum;
  });
}

template <int kWidth>
__global__ void __launch_bounds__(kThreads)
    softmax_backward_kernel(SoftmaxBackwardArgs<float> args) {
  for_rows<kWidth>(args.rows, args.channels, [&](auto me, int64_t row, int64_t columns) {
    const float* y = args.y + row * args.channels;
    const float* g = args.g + row * args.channels;
    float* dx = args.dx + row * args.channels;
    float dot = 0.f;
    for (int64_t k = me.lane; k < columns; k += kWidth) dot = fmaf(g[k], y[k], dot);
    dot = warp_sum<kWidth>(dot);
    for (int64_t k = me.lane; k < columns; k += kWidth) dx[k] = y[k] * (g[k] - dot);
  });
}

// A block per group of kCrossEntropyRows; writes the group's loss and number of targets.
template <int kWidth>
__global__ void __launch_bounds__(kThreads) loss_kernel(CrossEntropyArgs<float> args) {
  const RowLane<kWidth> me;
  float loss = 0.f, count = 0.f;
  for (int64_t k = me.group; k < kCrossEntropyRows; k += me.kGroups) {
    const int64_t row = blockIdx.x * kCrossEntropyRows + k;
    const bool there = row < args.rows;
    const float* x = args.x + (there ? row : 0) * args.channels;
    const int64_t columns = there ? args.channels : 0;
    const float most = me.max(x, columns);
    const float sum = me.sum_exp(x, columns, most);
    if (!there || me.lane != 0) continue;
    const int32_t target = args.targets[row];
    const bool known = target < args.channels;
    const float log_sum = known ? most + logf(sum) : NAN;
    args.log_sum[row] = log_sum;
    if (target < 0) continue;
    loss += known ? log_sum - x[target] : log_sum;
    count += 1.f;
  }
  loss = block_sum(loss);
  count = block_sum(count);
  if (threadIdx.x == 0) {
    args.workspace[2 * blockIdx.x] = loss;
    args.workspace[2 * blockIdx.x + 1] = count;
  }
}

__global__ void __launch_bounds__(kThreads)
    mean_kernel(CrossEntropyArgs<float> args, int64_t groups) {
  float loss = 0.f, count = 0.f;
  for (int64_t k = threadIdx.x; k < groups; k += kThreads) {
    loss += args.workspace[2 * k];
    count += args.workspace[2 * k + 1];
  }
  loss = block_sum(loss);
  count = block_sum(count);
  if (threadIdx.x == 0) {
    const float scale = count > 0.f ? 1.f / count : 0.f;
    *args.scale = scale;
    *args.loss = loss * scale;
  }
}

template <int kWidth>
__global__ void __launch_bounds__(kThreads)
    loss_backward_kernel(CrossEntropyBackwardArgs<float> args) {
  const float scale = *args.g * *args.scale;
  for_rows<kWidth>(args.rows, args.channels, [&](auto me, int64_t row, int64_t columns) {
    const float* x = args.x + row * args.channels;
    float* dx = args.dx + row * args.channels;
    const int32_t target = args.targets[row];
    const float log_sum = args.log_sum[row];
    for (int64_t k = me.lane; k < columns; k += kWidth)
      dx[k] = target < 0 ? 0.f : scale * (expf(x[k] - log_sum) - (k == target ? 1.f : 0.f));
  });
}

// Starts a row kernel in the width that suits the channels.
template <class Args>
Status launch_rows(void (*few)(Args), void (*many)(Args), const Args& args, Stream stream) {
  if (args.rows == 0 || args.channels == 0) return {};
  const bool is_few = args.channels <= kFewChannels;
  return launch(is_few ? few : many, blocks_for(args.rows, kThreads / (is_few ? 8 : kWarpSize)),
                kThreads, 0, stream, args);
}

}  // namespace

Status softmax(const SoftmaxArgs<float>& args, Stream stream) {
  return launch_rows(softmax_kernel<8>, softmax_kernel<kWarpSize>, args, stream);
}

Status softmax_backward(const SoftmaxBackwardArgs<float>& args, Stream stream) {
  return launch_rows(softmax_backward_kernel<8>, softmax_backward_kernel<kWarpSize>, args, stream);
}

Status cross_entropy(const CrossEntropyArgs<float>& args, Stream stream) {
  const int64_t groups = cross_entropy_workspace(args.rows) / 2;
  if (groups > 0) {
    const auto kernel = args.channels <= kFewChannels ? loss_kernel<8> : loss_kernel<kWarpSize>;
    const Status status = launch(kernel, static_cast<unsigned>(groups), kThreads, 0, stream, args);
    if (!status.ok()) return status;
  }
  return launch(mean_kernel, 1, kThreads, 0, stream, args, groups);
}

Status cross_entropy_backward(const CrossEntropyBackwardArgs<float>& args, Stream stream) {
  return launch_rows(loss_backward_kernel<8>, loss_backward_kernel<kWarpSize>, args, stream);
}

}  // namespace stillpoint::kernels::cuda
