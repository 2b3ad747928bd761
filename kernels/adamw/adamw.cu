// adamw on CUDA: one launch for all tensors, a block per chunk.
#include "kernels/adamw/adamw.h"
#include "kernels/common/launch.h"
#include "kernels/common/reduce.cuh"

namespace stillpoint::kernels::cuda {
namespace {

constexpr int kThreads = 256;

__device__ __forceinline__ float approach(float old, float rate, float fresh) {
  return fmaf(rate, fresh - old, old);
}

__global__ void __launch_bounds__(kThreads) step_kernel(AdamwArgs<float> args) {
  const AdamwTensor<float> t = tensor_of_chunk(args.tensors, args.count, int64_t{blockIdx.x});
  const int64_t begin = (blockIdx.x - t.first_chunk) * kAdamwChunk;
  const int64_t end = min(begin + kAdamwChunk, t.n);
  const float scale = args.gradient_scale == nullptr ? 1.f : *args.gradient_scale;
  for (int64_t k = begin + threadIdx.x; k < end; k += kThreads) {
    const float g = scale * t.gradient[k];
    const float m = approach(t.first[k], args.first_rate, g);
    const float v = approach(t.second[k], args.second_rate, g * g);
    t.first[k] = m;
    t.second[k] = v;
    const float step = args.correction1 * m / (sqrtf(args.correction2 * v) + args.epsilon);
    float p = t.parameter[k];
    p = fmaf(-args.learning_rate, fmaf(t.weight_decay, p, step), p);
    t.parameter[k] = p;
    if (t.average != nullptr) t.average[k] = approach(t.average[k], args.average_rate, p);
  }
}

__global__ void __launch_bounds__(kThreads) squares_kernel(GradientNormArgs<float> args) {
  const AdamwTensor<float> t = tensor_of_chunk(args.tensors, args.count, int64_t{blockIdx.x});
  const int64_t begin = (blockIdx.x - t.first_chunk) * kAdamwChunk;
  const int64_t end = min(begin + kAdamwChunk, t.n);
  float squares = 0.f;
  for (int64_t k = begin + threadIdx.x; k < end; k += kThreads)
    squares = fmaf(t.gradient[k], t.gradient[k], squares);
  squares = block_sum(squares);
  if (threadIdx.x == 0) args.workspace[blockIdx.x] = squares;
}

__global__ void __launch_bounds__(kThreads) norm_kernel(GradientNormArgs<float> args) {
  float squares = 0.f;
  for (int64_t k = threadIdx.x; k < args.chunks; k += kThreads) squares += args.workspace[k];
  squares = block_sum(squares);
  if (threadIdx.x != 0) return;
  const float norm = sqrtf(squares);
  args.out[0] = norm;
  args.out[1] = norm <= args.max_norm ? 1.f : args.max_norm / norm;
}

}  // namespace

Status adamw(const AdamwArgs<float>& args, Stream stream) {
  if (args.chunks == 0) return {};
  return launch(step_kernel, static_cast<unsigned>(args.chunks), kThreads, 0, stream, args);
}

Status gradient_norm(const GradientNormArgs<float>& args, Stream stream) {
  if (args.chunks > 0) {
    const Status status =
        launch(squares_kernel, static_cast<unsigned>(args.chunks), kThreads, 0, stream, args);
    if (!status.ok()) return status;
  }
  return launch(norm_kernel, 1, kThreads, 0, stream, args);
}

}  // namespace stillpoint::kernels::cuda
