// graph_attention on CUDA: a warp per head of a row, a lane per channel (up to four), one entry
// after the other.
#include <cmath>
#include <type_traits>

#include "kernels/common/launch.h"
#include "kernels/common/reduce.cuh"
#include "kernels/graph_attention/graph_attention.h"

namespace stillpoint::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarpSize;
// What a multiprocessor should hold at once: 64 registers a thread. Left to itself ptxas calls the
// shuffles as functions on sm_80, and spills around them.
constexpr int kBlocks = 4;

// A lane's channels of one head's row.
template <int kParts>
struct Row {
  float part[kParts];

  __device__ __forceinline__ Row() {
#pragma unroll
    for (int c = 0; c < kParts; ++c) part[c] = 0.f;
  }
  __device__ __forceinline__ Row(const float* from, int64_t width) {
#pragma unroll
    for (int c = 0; c < kParts; ++c) {
      const int64_t d = threadIdx.x % kWarpSize + c * kWarpSize;
      part[c] = d < width ? from[d] : 0.f;
    }
  }
  __device__ __forceinline__ void store(float* to, int64_t width, float factor) const {
#pragma unroll
    for (int c = 0; c < kParts; ++c) {
      const int64_t d = threadIdx.x % kWarpSize + c * kWarpSize;
      if (d < width) to[d] = factor * part[c];
    }
  }
  __device__ __forceinline__ float dot(const Row& other) const {
    float sum = 0.f;
#pragma unroll
    for (int c = 0; c < kParts; ++c) sum = fmaf(part[c], other.part[c], sum);
    return warp_sum(sum);
  }
  __device__ __forceinline__ void add(float weight, const Row& other) {
#pragma unroll
    for (int c = 0; c < kParts; ++c) part[c] = fmaf(weight, other.part[c], part[c]);
  }
  __device__ __forceinline__ void scale(float by) {
#pragma unroll
    for (int c = 0; c < kParts; ++c) part[c] *= by;
  }
};

// Calls body(row of all samples, head) for every head of `rows` rows, a warp each.
template <class Body>
__device__ __forceinline__ void for_heads(int64_t rows, const GraphAttentionShape& s, Body body) {
  const int64_t all = s.batch * rows * s.heads;
  for (int64_t at = global_thread() / kWarpSize; at < all; at += grid_threads() / kWarpSize)
    body(at / s.heads, at % s.heads);
}

template <int kParts>
__global__ void __launch_bounds__(kThreads, kBlocks)
    forward_kernel(GraphAttentionArgs<float> args) {
  const GraphAttentionShape& s = args.shape;
  const CsrView& p = args.pattern;
  const auto scale = static_cast<float>(s.scale);
  for_heads(p.rows, s, [&](int64_t row, int64_t h) {
    const int64_t stride = s.heads * s.width, own = row * stride + h * s.width;
    const int64_t other = row / p.rows * p.cols * stride + h * s.width, i = row % p.rows;
    const Row<kParts> q(args.q + own, s.width);
    Row<kParts> out;
    float max = -INFINITY, sum = 0.f;
    for (int64_t e = p.offsets[i]; e < p.offsets[i + 1]; ++e) {
      const int64_t key = other + p.indices[e] * stride;
      const float score = scale * q.dot(Row<kParts>(args.k + key, s.width));
      const float most = Max{}(score, max);
      const float shift = most == -INFINITY ? 0.f : most;  // nothing seen yet
      const float factor = max == most ? 1.f : expf(max - shift), weight = expf(score - shift);
      max = most;
      sum = fmaf(sum, factor, weight);
      out.scale(factor);
      out.add(weight, Row<kParts>(args.v + key, s.width));
    }
    const bool any = max != -INFINITY;
    if (threadIdx.x % kWarpSize == 0)
      args.log_sum[row * s.heads + h] = any ? max + logf(sum) : INFINITY;
    out.store(args.out + own, s.width, any ? 1.f / sum : 0.f);
  });
}

// ---- backward ----------------------------------------------------------------------------------

template <int kParts>
__global__ void __launch_bounds__(kThreads, kBlocks)
    queries_kernel(GraphAttentionBackwardArgs<float> args) {
  const GraphAttentionShape& s = args.shape;
  const CsrView& p = args.pattern;
  const auto scale = static_cast<float>(s.scale);
  for_heads(p.rows, s, [&](int64_t row, int64_t h) {
    const int64_t stride = s.heads * s.width, own = row * stride + h * s.width;
    const int64_t other = row / p.rows * p.cols * stride + h * s.width, i = row % p.rows;
    const Row<kParts> q(args.q + own, s.width), g(args.g + own, s.width);
    const float delta = g.dot(Row<kParts>(args.out + own, s.width));
    const float log_sum = args.log_sum[row * s.heads + h];
    Row<kParts> dq;
    for (int64_t e = p.offsets[i]; e < p.offsets[i + 1]; ++e) {
      const int64_t key = other + p.indices[e] * stride;
      const Row<kParts> k(args.k + key, s.width), v(args.v + key, s.width);
      const float weight = expf(fmaf(scale, q.dot(k), -log_sum));
      dq.add(weight * (g.dot(v) - delta), k);
    }
    if (threadIdx.x % kWarpSize == 0) args.delta[row * s.heads + h] = delta;
    dq.store(args.dq + own, s.width, scale);
  });
}

template <int kParts>
__global__ void __launch_bounds__(kThreads, kBlocks)
    keys_kernel(GraphAttentionBackwardArgs<float> args) {
  const GraphAttentionShape& s = args.shape;
  const CsrView& p = args.transposed;
  const auto scale = static_cast<float>(s.scale);
  for_heads(p.rows, s, [&](int64_t row, int64_t h) {
    const int64_t stride = s.heads * s.width, own = row * stride + h * s.width;
    const int64_t queries = row / p.rows * p.cols, j = row % p.rows;
    const Row<kParts> k(args.k + own, s.width), v(args.v + own, s.width);
    Row<kParts> dk, dv;
    for (int64_t e = p.offsets[j]; e < p.offsets[j + 1]; ++e) {
      const int64_t query = queries + p.indices[e], saved = query * s.heads + h;
      const Row<kParts> q(args.q + query * stride + h * s.width, s.width);
      const Row<kParts> g(args.g + query * stride + h * s.width, s.width);
      const float weight = expf(fmaf(scale, q.dot(k), -args.log_sum[saved]));
      dv.add(weight, g);
      dk.add(weight * (g.dot(v) - args.delta[saved]), q);
    }
    dk.store(args.dk + own, s.width, scale);
    dv.store(args.dv + own, s.width, 1.f);
  });
}

// Calls body with the number of channels of a lane.
template <class Body>
Status by_parts(int64_t width, Body body) {
  if (width <= 32) return body(std::integral_constant<int, 1>());
  if (width <= 64) return body(std::integral_constant<int, 2>());
  return body(std::integral_constant<int, 4>());
}

template <class Args>
Status launch_heads(void (*kernel)(Args), int64_t rows, const Args& args, Stream stream) {
  const int64_t heads = args.shape.batch * rows * args.shape.heads;
  if (heads == 0) return {};
  return launch(kernel, blocks_for(heads, kWarps), kThreads, 0, stream, args);
}

}  // namespace

Status graph_attention(const GraphAttentionArgs<float>& args, Stream stream) {
  return by_parts(args.shape.width, [&](auto parts) {
    return launch_heads(forward_kernel<parts.value>, args.pattern.rows, args, stream);
  });
}

Status graph_attention_backward(const GraphAttentionBackwardArgs<float>& args, Stream stream) {
  return by_parts(args.shape.width, [&](auto parts) {
    const Status status =
        launch_heads(queries_kernel<parts.value>, args.pattern.rows, args, stream);
    if (!status.ok()) return status;
    return launch_heads(keys_kernel<parts.value>, args.pattern.cols, args, stream);
  });
}

}  // namespace stillpoint::kernels::cuda
