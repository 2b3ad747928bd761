// random_fill on CUDA: a thread per block of four words.
#include "kernels/common/launch.h"
#include "kernels/common/philox.h"
#include "kernels/random_fill/random_fill.h"

namespace stillpoint::kernels::cuda {
namespace {

constexpr int kThreads = 256;

// One product and one sum, each rounded: nvcc would fuse them, and the last bit would not be the
// CPU's.
__device__ __forceinline__ float spread(float low, float width, float u) {
  return __fadd_rn(low, __fmul_rn(width, u));
}

__device__ __forceinline__ void normal_pair(const RandomFillArgs<float>& args, float u, float v,
                                            float* out) {
  const float scale = args.second * sqrtf(-2.f * logf(u + 0x1p-24f));
  float sine, cosine;
  sincospif(2.f * v, &sine, &cosine);
  out[0] = fmaf(scale, cosine, args.first);
  out[1] = fmaf(scale, sine, args.first);
}

__global__ void __launch_bounds__(kThreads) fill_kernel(RandomFillArgs<float> args) {
  const float width = args.second - args.first;
  for (int64_t b = global_thread(); 4 * b < args.n; b += grid_threads()) {
    const PhiloxBlock words =
        philox4x32_10(args.seed, args.first_block + static_cast<uint64_t>(b), args.stream);
    float v[4];
#pragma unroll
    for (int j = 0; j < 4; ++j) v[j] = uniform_from_bits(words.v[j]);
    if (args.kind == RandomKind::normal) {
      normal_pair(args, v[0], v[1], v);
      normal_pair(args, v[2], v[3], v + 2);
    } else {
#pragma unroll
      for (int j = 0; j < 4; ++j) v[j] = spread(args.first, width, v[j]);
    }
#pragma unroll
    for (int j = 0; j < 4; ++j)
      if (4 * b + j < args.n) args.out[4 * b + j] = v[j];
  }
}

}  // namespace

Status random_fill(const RandomFillArgs<float>& args, Stream stream) {
  if (args.n == 0) return {};
  return launch(fill_kernel, blocks_for((args.n + 3) / 4, kThreads), kThreads, 0, stream, args);
}

}  // namespace stillpoint::kernels::cuda
