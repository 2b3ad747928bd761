// Rung 2: one thread per (sample, row, channel). Neighbouring threads take neighbouring channels,
// so that a warp reads 128 bytes in one stretch; but every thread finds its place by divisions, and
// reads the same indices as its 31 neighbours for 4 bytes a time.
#include "kernels/common/launch.h"
#include "kernels/message_sum/ladder/ladder.h"

namespace stillpoint::kernels::cuda::ladder {
namespace {

constexpr int kThreads = 256;

// Where element `at` of a [batch, rows, channels] tensor lies.
struct Place {
  int64_t row, channel, sample;
};
__device__ __forceinline__ Place place(int64_t at, int64_t rows, int64_t channels) {
  const int64_t r = at / channels;
  return {r % rows, at % channels, r / rows};
}

__global__ void __launch_bounds__(kThreads) forward_kernel(MessageSumArgs<float> args) {
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

__global__ void __launch_bounds__(kThreads) backward_a_kernel(MessageSumBackwardArgs<float> args) {
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

__global__ void __launch_bounds__(kThreads) backward_c_kernel(MessageSumBackwardArgs<float> args) {
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

}  // namespace

Status channel_per_thread(const MessageSumArgs<float>& args, Stream stream) {
  const int64_t n = args.batch * args.pattern.rows * args.channels;
  if (n == 0) return {};
  return launch(forward_kernel, blocks_for(n, kThreads), kThreads, 0, stream, args);
}

Status channel_per_thread_backward(const MessageSumBackwardArgs<float>& args, Stream stream) {
  const int64_t per_row = args.batch * args.channels;
  if (per_row * args.pattern.rows > 0) {
    const Status status =
        launch(backward_a_kernel, blocks_for(per_row * args.pattern.rows, kThreads), kThreads, 0,
               stream, args);
    if (!status.ok()) return status;
  }
  if (per_row * args.transposed.rows == 0) return {};
  return launch(backward_c_kernel, blocks_for(per_row * args.transposed.rows, kThreads), kThreads,
                0, stream, args);
}

}  // namespace stillpoint::kernels::cuda::ladder
