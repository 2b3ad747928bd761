// factor_sum on CUDA: a thread owns one vector of channels of one row and adds its members. The
// threads of a block lie side by side along the channels, so that every member is read in one
// stretch.
#include <algorithm>

#include "kernels/common/float4.cuh"
#include "kernels/common/launch.h"
#include "kernels/factor_sum/factor_sum.h"

namespace stillpoint::kernels::cuda {
namespace {

constexpr int kThreads = 256;

// Block x: vectors of channels; block y and grid x: rows; grid y: samples. kDegree 0: any number
// of members.
template <int kDegree, class V>
__global__ void __launch_bounds__(kThreads)
    sum_members(const V* x, V* out, CsrView pattern, int64_t batch, int64_t vectors) {
  const int64_t row_step = int64_t{gridDim.x} * blockDim.y;
  for (int64_t b = blockIdx.y; b < batch; b += gridDim.y)
    for (int64_t f = int64_t{blockIdx.x} * blockDim.y + threadIdx.y; f < pattern.rows;
         f += row_step) {
      const int32_t begin = kDegree > 0 ? static_cast<int32_t>(f) * kDegree : pattern.offsets[f];
      const int32_t end = kDegree > 0 ? begin + kDegree : pattern.offsets[f + 1];
      const V* sample = x + b * pattern.cols * vectors;
      for (int64_t k = threadIdx.x; k < vectors; k += blockDim.x) {
        V sum = all<V>(0.f);
        if constexpr (kDegree > 0) {
#pragma unroll
          for (int m = 0; m < kDegree; ++m)
            sum = add(sum, sample[pattern.indices[begin + m] * vectors + k]);
        } else {
#pragma unroll 4
          for (int32_t e = begin; e < end; ++e)
            sum = add(sum, sample[pattern.indices[e] * vectors + k]);
        }
        out[(b * pattern.rows + f) * vectors + k] = sum;
      }
    }
}

template <class V>
Status launch_for(const FactorSumArgs<float>& args, Stream stream) {
  const CsrView& p = args.pattern;
  const int64_t vectors = args.channels / static_cast<int64_t>(sizeof(V) / sizeof(float));
  const auto width = static_cast<unsigned>(std::min<int64_t>(vectors, kThreads));
  const dim3 block(width, kThreads / width);
  const dim3 grid(blocks_for(p.rows, static_cast<int>(block.y)),
                  static_cast<unsigned>(std::min<int64_t>(args.batch, 65535)));
  const auto* x = reinterpret_cast<const V*>(args.x);
  auto* out = reinterpret_cast<V*>(args.out);
  const auto run = [&](auto kernel) {
    return launch(kernel, grid, block, 0, stream, x, out, p, args.batch, vectors);
  };
  switch (p.degree) {
    case 3:
      return run(sum_members<3, V>);
    case 4:
      return run(sum_members<4, V>);
    case 9:
      return run(sum_members<9, V>);
    default:
      return run(sum_members<0, V>);
  }
}

}  // namespace

Status factor_sum(const FactorSumArgs<float>& args, Stream stream) {
  if (args.batch * args.pattern.rows * args.channels == 0) return {};
  return rows_take_float4(args.channels, args.x, args.out) ? launch_for<float4>(args, stream)
                                                           : launch_for<float>(args, stream);
}

}  // namespace stillpoint::kernels::cuda
