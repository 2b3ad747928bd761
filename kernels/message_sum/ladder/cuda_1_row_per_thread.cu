// Rung 1: a thread walks through one row, as the loops on the CPU would. Neighbouring threads read
// addresses a whole row apart: of every 32-byte sector that memory delivers, 4 bytes are used.
#include "kernels/common/launch.h"
#include "kernels/message_sum/ladder/ladder.h"

namespace stillpoint::kernels::cuda::ladder {
namespace {

constexpr int kThreads = 256;

__global__ void __launch_bounds__(kThreads) forward(MessageSumArgs<float> args) {
  const CsrView p = args.pattern;
  for (int64_t r = global_thread(); r < args.batch * p.rows; r += grid_threads()) {
    const int64_t i = r % p.rows;
    const float* a = args.a + r * args.channels;
    const float* c = args.c + r / p.rows * p.cols * args.channels;
    for (int64_t k = 0; k < args.channels; ++k) {
      float sum = 0;
      for (int32_t e = p.offsets[i]; e < p.offsets[i + 1]; ++e) {
        const float m = a[k] + c[p.indices[e] * args.channels + k];
        sum += m < 0 ? 0.f : m;
      }
      args.out[r * args.channels + k] = sum;
    }
  }
}

__global__ void __launch_bounds__(kThreads) backward_a(MessageSumBackwardArgs<float> args) {
  const CsrView p = args.pattern;
  for (int64_t r = global_thread(); r < args.batch * p.rows; r += grid_threads()) {
    const int64_t i = r % p.rows;
    const float* c = args.c + r / p.rows * p.cols * args.channels;
    for (int64_t k = 0; k < args.channels; ++k) {
      const int64_t at = r * args.channels + k;
      float active = 0;
      for (int32_t e = p.offsets[i]; e < p.offsets[i + 1]; ++e)
        active += args.a[at] + c[p.indices[e] * args.channels + k] > 0 ? 1.f : 0.f;
      args.da[at] = args.g[at] * active;
    }
  }
}

__global__ void __launch_bounds__(kThreads) backward_c(MessageSumBackwardArgs<float> args) {
  const CsrView t = args.transposed;
  for (int64_t r = global_thread(); r < args.batch * t.rows; r += grid_threads()) {
    const int64_t j = r % t.rows, sample = r / t.rows * t.cols * args.channels;
    for (int64_t k = 0; k < args.channels; ++k) {
      float sum = 0;
      for (int32_t e = t.offsets[j]; e < t.offsets[j + 1]; ++e) {
        const int64_t at = sample + t.indices[e] * args.channels + k;
        sum += args.a[at] + args.c[r * args.channels + k] > 0 ? args.g[at] : 0.f;
      }
      args.dc[r * args.channels + k] = sum;
    }
  }
}

}  // namespace

Status row_per_thread(const MessageSumArgs<float>& args, Stream stream) {
  const int64_t rows = args.batch * args.pattern.rows;
  if (rows == 0) return {};
  return launch(forward, blocks_for(rows, kThreads), kThreads, 0, stream, args);
}

Status row_per_thread_backward(const MessageSumBackwardArgs<float>& args, Stream stream) {
  const int64_t rows = args.batch * args.pattern.rows, cols = args.batch * args.transposed.rows;
  if (rows > 0) {
    const Status status = launch(backward_a, blocks_for(rows, kThreads), kThreads, 0, stream, args);
    if (!status.ok()) return status;
  }
  if (cols == 0) return {};
  return launch(backward_c, blocks_for(cols, kThreads), kThreads, 0, stream, args);
}

}  // namespace stillpoint::kernels::cuda::ladder
