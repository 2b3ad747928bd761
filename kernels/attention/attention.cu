// attention on CUDA. A block owns a tile of rows (queries in the forward; queries, then keys in the
// backward) and walks over tiles of the other side in shared memory. kLanes neighbouring lanes
// share a row: each takes some of a tile's scores, and 4 or 8 of the row's sums, so that every read
// of shared memory is four floats and feeds four multiply-adds at least.
#include <cmath>

#include "kernels/attention/attention.h"
#include "kernels/attention/attention_tile.cuh"
#include "kernels/common/launch.h"
#include "kernels/common/reduce.cuh"

namespace stillpoint::kernels::cuda {
namespace {

using attention_tile::Head;
using attention_tile::load_tile;
using attention_tile::Tile;

// ---- forward -----------------------------------------------------------------------------------

constexpr int kThreads = 256;
constexpr int kQueries = 64;
constexpr int kKeys = 32;

template <int kWidth>
struct Forward {
  using Q = Tile<kWidth>;
  using S = Tile<kKeys>;
  static constexpr int kLanes = kWidth == 32 ? 8 : 16;
  static constexpr int kRows = kQueries * kLanes / kThreads;  // of a thread
  static constexpr int kScores = kKeys / kLanes;              // of a thread in each of its rows
  static constexpr int kParts = kWidth / (4 * kLanes);        // float4 of a row
  static constexpr size_t kShared =
      sizeof(float) * (kQueries * Q::kStride + kKeys * Q::kStride + kQueries * S::kStride);
};

template <int kWidth>
__global__ void __launch_bounds__(kThreads) forward_kernel(AttentionArgs<float> args) {
  using F = Forward<kWidth>;
  const AttentionShape& shape = args.shape;
  const int64_t tiles = (shape.queries + kQueries - 1) / kQueries;
  const Head head(shape, blockIdx.x / tiles, args.key_mask);
  const int64_t first = blockIdx.x % tiles * kQueries;
  float* q = dynamic_shared<float>();
  float* kv = q + kQueries * F::Q::kStride;
  float* p = kv + kKeys * F::Q::kStride;
  const int lane = static_cast<int>(threadIdx.x) % F::kLanes;
  const int row = static_cast<int>(threadIdx.x) / F::kLanes * F::kRows;

  load_tile<kWidth, kQueries, kThreads>(head.queries(args.q), first, q);
  float max[F::kRows], sum[F::kRows];
  float4 out[F::kRows][F::kParts];
#pragma unroll
  for (int r = 0; r < F::kRows; ++r) {
    max[r] = -INFINITY;
    sum[r] = 0.f;
#pragma unroll
    for (int c = 0; c < F::kParts; ++c) out[r][c] = make_float4(0.f, 0.f, 0.f, 0.f);
  }
  const int64_t last =
      shape.mask == AttentionMask::causal ? min(shape.keys, first + kQueries) : shape.keys;
  for (int64_t key = 0; key < last; key += kKeys) {
    __syncthreads();
    load_tile<kWidth, kKeys, kThreads>(head.keys(args.k), key, kv);
    __syncthreads();
    float s[F::kRows][F::kScores] = {};
    attention_tile::add_dots<kWidth>(q, row, kv, lane, s);
#pragma unroll
    for (int r = 0; r < F::kRows; ++r) {
      float most = max[r];
#pragma unroll
      for (int c = 0; c < F::kScores; ++c) {
        const bool seen = head.sees(first + row + r, key + lane + c * F::kLanes);
        s[r][c] = seen ? s[r][c] * static_cast<float>(shape.scale) : -INFINITY;
        most = Max{}(s[r][c], most);
      }
      most = warp_max<F::kLanes>(most);
      const float shift = most == -INFINITY ? 0.f : most;  // nothing seen yet
      const float factor = max[r] == most ? 1.f : expf(max[r] - shift);
      max[r] = most;
      float total = 0.f;
#pragma unroll
      for (int c = 0; c < F::kScores; ++c) {
        const float e = expf(s[r][c] - shift);
        p[(row + r) * F::S::kStride + lane + c * F::kLanes] = e;
        total += e;
      }
      sum[r] = fmaf(sum[r], factor, warp_sum<F::kLanes>(total));
#pragma unroll
      for (int c = 0; c < F::kParts; ++c) attention_tile::scale(out[r][c], factor);
    }
    __syncthreads();
    load_tile<kWidth, kKeys, kThreads>(head.keys(args.v), key, kv);
    __syncthreads();
    attention_tile::add_rows<kWidth, kKeys>(p, row, kv, lane, out);
  }
#pragma unroll
  for (int r = 0; r < F::kRows; ++r) {
    const int64_t i = first + row + r;
    if (i >= shape.queries) continue;
    const bool any = max[r] != -INFINITY;
    if (lane == 0) args.log_sum[head.saved(i)] = any ? max[r] + logf(sum[r]) : INFINITY;
    attention_tile::store_row<kWidth>(head.queries(args.out), i, lane, out[r],
                                      any ? 1.f / sum[r] : 0.f);
  }
}

// ---- backward ----------------------------------------------------------------------------------

constexpr int kBackwardThreads = 128;
constexpr int kOwn = 32;

// A warp per row.
__global__ void __launch_bounds__(kThreads) delta_kernel(AttentionBackwardArgs<float> args) {
  const AttentionShape& shape = args.shape;
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int64_t rows = shape.batch * shape.heads * shape.queries;
  for (int64_t row = global_thread() / kWarpSize; row < rows; row += grid_threads() / kWarpSize) {
    const Head head(shape, row / shape.queries, nullptr);
    const float* g = head.queries(args.g).row(row % shape.queries);
    const float* out = head.queries(args.out).row(row % shape.queries);
    float dot = 0.f;
    for (int64_t d = lane; d < shape.width; d += kWarpSize) dot = fmaf(g[d], out[d], dot);
    dot = warp_sum(dot);
    if (lane == 0) args.delta[row] = dot;
  }
}

enum class Side : uint8_t { queries, keys };  // whose gradients a block forms

template <int kWidth>
struct Backward {
  using X = Tile<kWidth>;
  static constexpr int kLanes = kWidth == 32 ? 8 : 16;
  static constexpr int kRows = kOwn * kLanes / kBackwardThreads;
  static constexpr int kOther = kWidth == 128 ? 16 : 32;  // 64 KiB of shared memory at most
  static constexpr int kScores = kOther / kLanes;
  static constexpr int kParts = kWidth / (4 * kLanes);
  using S = Tile<kOther>;
  static constexpr size_t kShared =
      sizeof(float) * 2 * (kOwn * X::kStride + kOther * X::kStride + kOwn * S::kStride);
};

// Own rows x of (q, g) against all y of (k, v), or the other way round: dx0 += ds y0, dx1 += p y1.
template <int kWidth, Side kSide>
__global__ void __launch_bounds__(kBackwardThreads)
    backward_kernel(AttentionBackwardArgs<float> args) {
  using B = Backward<kWidth>;
  constexpr bool kKeySide = kSide == Side::keys;
  const AttentionShape& shape = args.shape;
  const int64_t own = kKeySide ? shape.keys : shape.queries;
  const int64_t other = kKeySide ? shape.queries : shape.keys;
  const int64_t tiles = (own + kOwn - 1) / kOwn;
  const Head head(shape, blockIdx.x / tiles, args.key_mask);
  const int64_t first = blockIdx.x % tiles * kOwn;
  float* x0 = dynamic_shared<float>();
  float* x1 = x0 + kOwn * B::X::kStride;
  float* y0 = x1 + kOwn * B::X::kStride;
  float* y1 = y0 + B::kOther * B::X::kStride;
  float* p = y1 + B::kOther * B::X::kStride;
  float* ds = p + kOwn * B::S::kStride;
  const int lane = static_cast<int>(threadIdx.x) % B::kLanes;
  const int row = static_cast<int>(threadIdx.x) / B::kLanes * B::kRows;

  const auto q = head.queries(args.q), g = head.queries(args.g);
  const auto k = head.keys(args.k), v = head.keys(args.v);
  load_tile<kWidth, kOwn, kBackwardThreads>(kKeySide ? k : q, first, x0);
  load_tile<kWidth, kOwn, kBackwardThreads>(kKeySide ? v : g, first, x1);
  float4 dx0[B::kRows][B::kParts] = {}, dx1[B::kRows][B::kParts] = {};
  const bool causal = shape.mask == AttentionMask::causal;
  const int64_t begin = causal && kKeySide ? first / B::kOther * B::kOther : 0;
  const int64_t end = causal && !kKeySide ? min(other, first + kOwn) : other;
  for (int64_t at = begin; at < end; at += B::kOther) {
    __syncthreads();
    load_tile<kWidth, B::kOther, kBackwardThreads>(kKeySide ? q : k, at, y0);
    load_tile<kWidth, B::kOther, kBackwardThreads>(kKeySide ? g : v, at, y1);
    __syncthreads();
    float s[B::kRows][B::kScores] = {}, dp[B::kRows][B::kScores] = {};
    attention_tile::add_dots<kWidth>(x0, row, y0, lane, s);
    attention_tile::add_dots<kWidth>(x1, row, y1, lane, dp);
#pragma unroll
    for (int r = 0; r < B::kRows; ++r)
#pragma unroll
      for (int c = 0; c < B::kScores; ++c) {
        const int64_t mine = first + row + r, theirs = at + lane + c * B::kLanes;
        const int64_t i = kKeySide ? theirs : mine, j = kKeySide ? mine : theirs;
        float pij = 0.f, dsij = 0.f;
        if (i < shape.queries && head.sees(i, j)) {
          pij = expf(fmaf(s[r][c], static_cast<float>(shape.scale), -args.log_sum[head.saved(i)]));
          dsij = pij * (dp[r][c] - args.delta[head.saved(i)]);
        }
        const int to = (row + r) * B::S::kStride + lane + c * B::kLanes;
        if constexpr (kKeySide) p[to] = pij;
        ds[to] = dsij;
      }
    __syncthreads();
    attention_tile::add_rows<kWidth, B::kOther>(ds, row, y0, lane, dx0);
    if constexpr (kKeySide) attention_tile::add_rows<kWidth, B::kOther>(p, row, y1, lane, dx1);
  }
#pragma unroll
  for (int r = 0; r < B::kRows; ++r) {
    const int64_t i = first + row + r;
    if (i >= own) continue;
    const auto scale = static_cast<float>(shape.scale);
    if constexpr (kKeySide) {
      // A NaN elsewhere leaves a masked key's gradient 0.
      if (!head.there(i)) {
#pragma unroll
        for (int c = 0; c < B::kParts; ++c) dx0[r][c] = dx1[r][c] = make_float4(0.f, 0.f, 0.f, 0.f);
      }
      attention_tile::store_row<kWidth>(head.keys(args.dk), i, lane, dx0[r], scale);
      attention_tile::store_row<kWidth>(head.keys(args.dv), i, lane, dx1[r], 1.f);
    } else {
      attention_tile::store_row<kWidth>(head.queries(args.dq), i, lane, dx0[r], scale);
    }
  }
}

template <int kWidth>
Status launch_backward(const AttentionBackwardArgs<float>& args, Stream stream) {
  const int64_t heads = args.shape.batch * args.shape.heads;
  const auto grid = [&](int64_t own) {
    return static_cast<unsigned>((own + kOwn - 1) / kOwn * heads);
  };
  if (args.shape.queries > 0) {
    const Status status = launch(backward_kernel<kWidth, Side::queries>, grid(args.shape.queries),
                                 kBackwardThreads, Backward<kWidth>::kShared, stream, args);
    if (!status.ok()) return status;
  }
  if (args.shape.keys == 0) return {};
  return launch(backward_kernel<kWidth, Side::keys>, grid(args.shape.keys), kBackwardThreads,
                Backward<kWidth>::kShared, stream, args);
}

template <int kWidth>
Status launch_forward(const AttentionArgs<float>& args, Stream stream) {
  const int64_t tiles = (args.shape.queries + kQueries - 1) / kQueries;
  return launch(forward_kernel<kWidth>,
                static_cast<unsigned>(tiles * args.shape.batch * args.shape.heads), kThreads,
                Forward<kWidth>::kShared, stream, args);
}

}  // namespace

Status attention(const AttentionArgs<float>& args, Stream stream) {
  const AttentionShape& s = args.shape;
  if (s.batch * s.heads * s.queries == 0) return {};
  if (s.width <= 32) return launch_forward<32>(args, stream);
  return s.width <= 64 ? launch_forward<64>(args, stream) : launch_forward<128>(args, stream);
}

Status attention_backward(const AttentionBackwardArgs<float>& args, Stream stream) {
  const AttentionShape& s = args.shape;
  const int64_t rows = s.batch * s.heads * s.queries;
  if (rows > 0) {
    const Status status =
        launch(delta_kernel, blocks_for(rows, kThreads / kWarpSize), kThreads, 0, stream, args);
    if (!status.ok()) return status;
  }
  if (s.batch * s.heads == 0) return {};
  if (s.width <= 32) return launch_backward<32>(args, stream);
  return s.width <= 64 ? launch_backward<64>(args, stream) : launch_backward<128>(args, stream);
}

}  // namespace stillpoint::kernels::cuda
