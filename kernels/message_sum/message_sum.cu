// message_sum on CUDA: one thread per (sample, row, channel). Neighbouring threads take
// neighbouring channels, so every load of a row is coalesced, and the rows of c that a warp gathers
// are shared by the rows around it through L1 and L2.
#include "kernels/common/launch.h"
#include "kernels/message_sum/message_sum.h"

namespace stillpoint::kernels::cuda {
namespace {

constexpr int kBlock = 256;

// Where element `at` of a [batch, rows, channels] tensor lies.
struct Place {
  int64_t row, channel, sample;
};
__device__ __forceinline__ Place place(int64_t at, int64_t rows, int64_t channels) {
  const int64_t r = at / channels;
  return {r % rows, at % channels, r / rows};
}

__global__ void __launch_bounds__(kBlock) forward_kernel(MessageSumArgs<float> args) {
  const CsrView p = args.pattern;
  const int64_t n = args.batch * p.rows * args.channels;
  for (int64_t at = global_thread(); at < n; at += grid_threads()) {
    const Place here = place(at, p.rows, args.channels);
    const float* c = args.c + here.sample * p.cols * args.channels + here.channel;
    const float a = args.a[at];
    float sum = 0;
    for (int32_t e = p.offsets[here.row]; e < p.offsets[here.row + 1]; ++e) {
      const float m = a + c[p.indices[e] * args.channels];
      sum += m < 0 ? 0.f : m;
    }
    args.out[at] = sum;
  }
}

__global__ void __launch_bounds__(kBlock) backward_a_kernel(MessageSumBackwardArgs<float> args) {
  const CsrView p = args.pattern;
  const int64_t n = args.batch * p.rows * args.channels;
  for (int64_t at = global_thread(); at < n; at += grid_threads()) {
    const Place here = place(at, p.rows, args.channels);
    const float* c = args.c + here.sample * p.cols * args.channels + here.channel;
    const float a = args.a[at];
    float active = 0;
    for (int32_t e = p.offsets[here.row]; e < p.offsets[here.row + 1]; ++e)
      active += a + c[p.indices[e] * args.channels] > 0 ? 1.f : 0.f;
    args.da[at] = args.g[at] * active;
  }
}

__global__ void __launch_bounds__(kBlock) backward_c_kernel(MessageSumBackwardArgs<float> args) {
  const CsrView t = args.transposed;
  const int64_t n = args.batch * t.rows * args.channels;
  for (int64_t at = global_thread(); at < n; at += grid_threads()) {
    const Place here = place(at, t.rows, args.channels);
    const int64_t sample = here.sample * t.cols * args.channels + here.channel;
    const float c = args.c[at];
    float sum = 0;
    for (int32_t e = t.offsets[here.row]; e < t.offsets[here.row + 1]; ++e) {
      const int64_t i = sample + t.indices[e] * args.channels;
      sum += args.a[i] + c > 0 ? args.g[i] : 0.f;
    }
    args.dc[at] = sum;
  }
}

__global__ void __launch_bounds__(kBlock) tangent_kernel(MessageSumTangentArgs<float> args) {
  const CsrView p = args.pattern;
  const int64_t n = args.batch * p.rows * args.channels;
  for (int64_t at = global_thread(); at < n; at += grid_threads()) {
    const Place here = place(at, p.rows, args.channels);
    const int64_t sample = here.sample * p.cols * args.channels + here.channel;
    const float a = args.a[at], ta = args.ta[at];
    float sum = 0;
    for (int32_t e = p.offsets[here.row]; e < p.offsets[here.row + 1]; ++e) {
      const int64_t j = sample + p.indices[e] * args.channels;
      sum += a + args.c[j] > 0 ? ta + args.tc[j] : 0.f;
    }
    args.out[at] = sum;
  }
}

}  // namespace

Status message_sum(const MessageSumArgs<float>& args, Stream stream) {
  const int64_t n = args.batch * args.pattern.rows * args.channels;
  if (n == 0) return {};
  return launch(forward_kernel, blocks_for(n, kBlock), kBlock, 0, stream, args);
}

Status message_sum_backward(const MessageSumBackwardArgs<float>& args, Stream stream) {
  const int64_t per_row = args.batch * args.channels;
  if (per_row * args.pattern.rows > 0) {
    const Status status = launch(backward_a_kernel, blocks_for(per_row * args.pattern.rows, kBlock),
                                 kBlock, 0, stream, args);
    if (!status.ok()) return status;
  }
  if (per_row * args.transposed.rows == 0) return {};
  return launch(backward_c_kernel, blocks_for(per_row * args.transposed.rows, kBlock), kBlock, 0,
                stream, args);
}

Status message_sum_tangent(const MessageSumTangentArgs<float>& args, Stream stream) {
  const int64_t n = args.batch * args.pattern.rows * args.channels;
  if (n == 0) return {};
  return launch(tangent_kernel, blocks_for(n, kBlock), kBlock, 0, stream, args);
}

}  // namespace stillpoint::kernels::cuda
