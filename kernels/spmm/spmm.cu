// spmm on CUDA. The product: a thread owns one vector of channels of one row, as in factor_sum. The
// values: a warp owns one entry and walks over all channels of all samples.
#include "kernels/spmm/spmm.h"

#include <algorithm>

#include "kernels/common/float4.cuh"
#include "kernels/common/launch.h"
#include "kernels/common/reduce.cuh"
#include "kernels/spmm/cusparse.h"

namespace stillpoint::kernels::cuda {
namespace {

constexpr int kThreads = 256;

// Block x: vectors of channels; block y and grid x: rows; grid y: samples.
template <class V>
__global__ void __launch_bounds__(kThreads)
    multiply_rows(const float* values, const int32_t* order, const V* x, V* out, CsrView pattern,
                  int64_t batch, int64_t vectors) {
  const int64_t row_step = int64_t{gridDim.x} * blockDim.y;
  for (int64_t b = blockIdx.y; b < batch; b += gridDim.y)
    for (int64_t i = int64_t{blockIdx.x} * blockDim.y + threadIdx.y; i < pattern.rows;
         i += row_step) {
      const int32_t begin = pattern.offsets[i], end = pattern.offsets[i + 1];
      const V* sample = x + b * pattern.cols * vectors;
      for (int64_t k = threadIdx.x; k < vectors; k += blockDim.x) {
        V sum = all<V>(0.f);
#pragma unroll 4
        for (int32_t e = begin; e < end; ++e)
          sum = multiply_add(values[order ? order[e] : e], sample[pattern.indices[e] * vectors + k],
                             sum);
        out[(b * pattern.rows + i) * vectors + k] = sum;
      }
    }
}

// Lane l takes the vectors l, l + 32, ... of the samples laid end to end.
template <class V>
__global__ void __launch_bounds__(kThreads)
    dot_entries(const V* g, const V* x, float* out, CsrView pattern, int64_t batch,
                int64_t vectors) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int64_t sample_step = kWarpSize / vectors, vector_step = kWarpSize % vectors;
  for (int64_t e = global_thread() / kWarpSize; e < pattern.entries;
       e += grid_threads() / kWarpSize) {
    const int64_t i = row_of_entry(pattern, e), j = pattern.indices[e];
    float sum = 0.f;
    int64_t b = lane / vectors, k = lane % vectors;
    while (b < batch) {
      sum = dot_add(g[(b * pattern.rows + i) * vectors + k],
                    x[(b * pattern.cols + j) * vectors + k], sum);
      b += sample_step;
      k += vector_step;
      if (k >= vectors) {
        k -= vectors;
        ++b;
      }
    }
    sum = warp_sum(sum);
    if (lane == 0) out[e] = sum;
  }
}

__global__ void permute(const float* values, const int32_t* order, float* out, int64_t entries) {
  for (int64_t e = global_thread(); e < entries; e += grid_threads()) out[e] = values[order[e]];
}

template <class V>
int64_t vectors_of(int64_t channels) {
  return channels / static_cast<int64_t>(sizeof(V) / sizeof(float));
}

template <class V>
Status launch_product(const SpmmArgs<float>& args, Stream stream) {
  const int64_t vectors = vectors_of<V>(args.channels);
  const auto width = static_cast<unsigned>(std::min<int64_t>(vectors, kThreads));
  const dim3 block(width, kThreads / width);
  const dim3 grid(blocks_for(args.pattern.rows, static_cast<int>(block.y)),
                  static_cast<unsigned>(std::min<int64_t>(args.batch, 65535)));
  return launch(multiply_rows<V>, grid, block, 0, stream, args.values, args.order,
                reinterpret_cast<const V*>(args.x), reinterpret_cast<V*>(args.out), args.pattern,
                args.batch, vectors);
}

template <class V>
Status launch_values(const SpmmValuesArgs<float>& args, Stream stream) {
  return launch(dot_entries<V>, blocks_for(args.pattern.entries * kWarpSize, kThreads), kThreads, 0,
                stream, reinterpret_cast<const V*>(args.g), reinterpret_cast<const V*>(args.x),
                args.out, args.pattern, args.batch, vectors_of<V>(args.channels));
}

Status zero(float* out, int64_t n, Stream stream) {
  return {.code = cudaMemsetAsync(out, 0, static_cast<size_t>(n) * sizeof(float), stream),
          .call = "cudaMemsetAsync"};
}

int64_t outputs(const SpmmArgs<float>& args) {
  return args.batch * args.pattern.rows * args.channels;
}

// The head of the library's workspace: the values in the order of the pattern.
int64_t permuted_bytes(const SpmmArgs<float>& args) {
  constexpr int64_t kAlignment = 256;
  const int64_t bytes = args.pattern.entries * static_cast<int64_t>(sizeof(float));
  return args.order != nullptr ? (bytes + kAlignment - 1) / kAlignment * kAlignment : 0;
}

}  // namespace

Status spmm(const SpmmArgs<float>& args, Stream stream) {
  if (outputs(args) == 0) return {};
  return rows_take_float4(args.channels, args.x, args.out) ? launch_product<float4>(args, stream)
                                                           : launch_product<float>(args, stream);
}

Status spmm_values(const SpmmValuesArgs<float>& args, Stream stream) {
  if (args.pattern.entries == 0) return {};
  if (args.batch * args.channels == 0) return zero(args.out, args.pattern.entries, stream);
  return rows_take_float4(args.channels, args.g, args.x) ? launch_values<float4>(args, stream)
                                                         : launch_values<float>(args, stream);
}

Status spmm_library_workspace(const SpmmArgs<float>& args, cusparseContext* handle,
                              int64_t* bytes) {
  *bytes = 0;
  if (outputs(args) == 0 || args.pattern.entries == 0) return {};
  size_t library_bytes = 0;
  const Status status = CusparseProduct(args, handle).workspace(&library_bytes);
  *bytes = permuted_bytes(args) + static_cast<int64_t>(library_bytes);
  return status;
}

Status spmm_library(const SpmmArgs<float>& args, cusparseContext* handle, void* workspace,
                    Stream stream) {
  const int64_t entries = args.pattern.entries;
  if (outputs(args) == 0) return {};
  if (entries == 0) return zero(args.out, outputs(args), stream);
  SpmmArgs<float> product = args;
  if (args.order != nullptr) {
    auto* permuted = static_cast<float*>(workspace);
    const Status status = launch(permute, blocks_for(entries, kThreads), kThreads, 0, stream,
                                 args.values, args.order, permuted, entries);
    if (!status.ok()) return status;
    product.values = permuted;
    product.order = nullptr;
  }
  return CusparseProduct(product, handle)
      .multiply(static_cast<char*>(workspace) + permuted_bytes(args), stream);
}

}  // namespace stillpoint::kernels::cuda
