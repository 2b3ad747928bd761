// attention_topk_sample on CUDA: a block forms the scores of 32 queries against a tile of 32 keys
// in shared memory, as attention does; each of its four warps then takes the draws of eight rows.
#include <cmath>

#include "kernels/attention/attention_tile.cuh"
#include "kernels/attention_topk_sample/attention_topk_sample.h"
#include "kernels/attention_topk_sample/sample_draws.h"
#include "kernels/attention_topk_sample/sample_warp.cuh"
#include "kernels/common/launch.h"
#include "kernels/common/reduce.cuh"

namespace stillpoint::kernels::cuda {
namespace {

using attention_tile::Head;
using attention_tile::load_tile;
using attention_tile::Tile;

constexpr int kThreads = 128;
constexpr int kRows = 32;  // of a block's own side
constexpr int kKeys = 32;  // of a tile of the forward: a lane each
constexpr int kRowsOfWarp = kRows * kWarpSize / kThreads;

__device__ __forceinline__ AttentionShape one_head(const SampleShape& s) {
  return {s.batch, s.queries, s.keys, 1, s.width, AttentionMask::none, s.scale};
}

template <int kWidth>
constexpr int kLanes = kWidth == 32 ? 8 : 16;  // that share a row of a tile
template <int kWidth>
constexpr int kRowsOfThread = kRows* kLanes<kWidth> / kThreads;

// ---- forward -----------------------------------------------------------------------------------

template <int kWidth>
struct Forward {
  static constexpr int kStride = Tile<kWidth>::kStride, kScores = Tile<kKeys>::kStride;
  static constexpr size_t kShared =
      kRows * (sizeof(sample_warp::Draws) + sizeof(sample_warp::Row)) +
      sizeof(float) * (kRows * kStride + kKeys * kStride + kRows * kScores);

  sample_warp::Draws* draws;
  sample_warp::Row* rows;
  float *q, *k, *scores;

  __device__ Forward() {
    draws = dynamic_shared<sample_warp::Draws>();
    rows = reinterpret_cast<sample_warp::Row*>(draws + kRows);
    q = reinterpret_cast<float*>(rows + kRows);
    k = q + kRows * kStride;
    scores = k + kKeys * kStride;
  }

  // Calls body(first key) when a tile's scores are in shared memory, -inf where a key is not seen.
  template <class Body>
  __device__ __forceinline__ void for_tiles(const AttentionTopkSampleArgs<float>& args,
                                            const Head& head, Body body) const {
    constexpr int kColumns = kKeys / kLanes<kWidth>;
    const int lane = static_cast<int>(threadIdx.x) % kLanes<kWidth>;
    const int row = static_cast<int>(threadIdx.x) / kLanes<kWidth> * kRowsOfThread<kWidth>;
    for (int64_t key = 0; key < args.shape.keys; key += kKeys) {
      __syncthreads();
      load_tile<kWidth, kKeys, kThreads>(head.keys(args.k), key, k);
      __syncthreads();
      float s[kRowsOfThread<kWidth>][kColumns] = {};
      attention_tile::add_dots<kWidth>(q, row, k, lane, s);
#pragma unroll
      for (int r = 0; r < kRowsOfThread<kWidth>; ++r)
#pragma unroll
        for (int c = 0; c < kColumns; ++c) {
          const int j = lane + c * kLanes<kWidth>;
          scores[(row + r) * kScores + j] = key + j < args.shape.keys && head.there(key + j)
                                                ? s[r][c] * static_cast<float>(args.shape.scale)
                                                : -INFINITY;
        }
      __syncthreads();
      body(key);
    }
  }
};

// Calls body(row of the block) for the rows of this warp that exist.
template <class Body>
__device__ __forceinline__ void for_rows(int64_t rows, Body body) {
  const int begin = static_cast<int>(threadIdx.x) / kWarpSize * kRowsOfWarp;
  for (int r = begin; r < begin + kRowsOfWarp && r < rows; ++r) body(r);
}

template <int kWidth>
__device__ void draw_largest(const AttentionTopkSampleArgs<float>& args, const Forward<kWidth>& on,
                             const Head& head, int64_t number, int64_t rows) {
  const SampleShape& s = args.shape;
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  on.for_tiles(args, head, [&](int64_t key) {
    for_rows(rows, [&](int r) {
      const float score = on.scores[r * on.kScores + lane];
      float perturbed = score;
      if (s.law == SampleLaw::plackett_luce) {
        const int64_t j = key + lane;
        const uint64_t block =
            s.first_block +
            static_cast<uint64_t>((number + r) * plackett_luce_blocks(s.keys) + j / 4);
        const PhiloxBlock words = philox4x32_10(s.seed, block, s.stream);
        const uint32_t low = j % 2 == 0 ? words.v[0] : words.v[1];
        const uint32_t high = j % 2 == 0 ? words.v[2] : words.v[3];
        perturbed = exact::add(score, exact::gumbel(j % 4 < 2 ? low : high));
      }
      sample_warp::add_largest(on.rows[r], on.draws[r].largest, static_cast<int>(s.count),
                               perturbed, score, static_cast<int32_t>(key));
    });
  });
  for_rows(rows, [&](int r) {
    for (int t = lane; t < on.rows[r].found; t += kWarpSize) {
      args.indices[(number + r) * s.count + t] = on.draws[r].largest.index[t];
      args.scores[(number + r) * s.count + t] = on.draws[r].largest.score[t];
    }
  });
}

template <int kWidth>
__device__ void draw_independent(const AttentionTopkSampleArgs<float>& args,
                                 const Forward<kWidth>& on, const Head& head, int64_t number,
                                 int64_t rows) {
  const SampleShape& s = args.shape;
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const auto score = [&](int r) { return on.scores[r * on.kScores + lane]; };
  on.for_tiles(args, head, [&](int64_t) {
    for_rows(rows, [&](int r) { sample_warp::add_sum(on.rows[r], score(r)); });
  });
  on.for_tiles(args, head, [&](int64_t) {
    for_rows(rows, [&](int r) {
      if (sample_warp::drawable(on.rows[r])) sample_warp::add_total(on.rows[r], score(r));
    });
  });
  for_rows(rows, [&](int r) { sample_warp::aim(s, number + r, on.rows[r], on.draws[r].target); });
  on.for_tiles(args, head, [&](int64_t key) {
    for_rows(rows, [&](int r) {
      if (!sample_warp::drawable(on.rows[r])) return;
      const int64_t first = (number + r) * s.count;
      sample_warp::find(on.rows[r], on.draws[r].target, static_cast<int>(s.count), score(r),
                        static_cast<int32_t>(key), args.indices + first, args.scores + first);
    });
  });
}

template <int kWidth, bool kReplacement>
__global__ void __launch_bounds__(kThreads) forward_kernel(AttentionTopkSampleArgs<float> args) {
  const Forward<kWidth> on;
  const AttentionShape shape = one_head(args.shape);
  const int64_t tiles = (shape.queries + kRows - 1) / kRows;
  const Head head(shape, blockIdx.x / tiles, args.key_mask);
  const int64_t first = blockIdx.x % tiles * kRows;
  const int64_t number = head.number * shape.queries + first;
  const int64_t rows = min(int64_t{kRows}, shape.queries - first);
  load_tile<kWidth, kRows, kThreads>(head.queries(args.q), first, on.q);
  if (threadIdx.x < kRows) on.rows[threadIdx.x] = {{-INFINITY, 0.f}, 0, 0, 0};
  __syncthreads();
  if constexpr (kReplacement)
    draw_independent<kWidth>(args, on, head, number, rows);
  else
    draw_largest<kWidth>(args, on, head, number, rows);
  __syncthreads();
  if (threadIdx.x < rows) {
    const sample_warp::Row& row = on.rows[threadIdx.x];
    bool finite = row.sum.finite();
    if constexpr (!kReplacement)
      finite = finite && (row.found == 0 || on.draws[threadIdx.x].largest.perturbed[0] < INFINITY);
    finish_row(args, number + threadIdx.x, row.found, row.sum.log(), finite);
  }
}

// ---- backward ----------------------------------------------------------------------------------

__global__ void __launch_bounds__(kThreads)
    rows_kernel(AttentionTopkSampleBackwardArgs<float> args) {
  const SampleShape& s = args.shape;
  for (int64_t row = global_thread(); row < s.batch * s.queries; row += grid_threads()) {
    const int64_t first = row * s.count;
    args.rest[row] = sample_row_gradient(s.law, s.count, args.indices + first, args.scores + first,
                                         args.log_remaining + first, args.log_rest[row],
                                         args.g + first, args.drawn + first);
  }
}

enum class Side : uint8_t { queries, keys };  // whose gradient a block forms

// What a multiprocessor should hold at once: 128 registers a thread. Left to itself ptxas tries for
// more and spills.
constexpr int kBlocks = 4;

template <int kWidth>
struct Backward {
  static constexpr int kOther = 32;
  static constexpr size_t kShared =
      sizeof(float) * (kRows * Tile<kWidth>::kStride + kOther * Tile<kWidth>::kStride +
                       kRows * Tile<kOther>::kStride);
};

// Own rows x of q against all y of k, or the other way round: dx = scale sum over y of ds y.
template <int kWidth, Side kSide>
__global__ void __launch_bounds__(kThreads, kBlocks)
    backward_kernel(AttentionTopkSampleBackwardArgs<float> args) {
  using B = Backward<kWidth>;
  constexpr bool kKeySide = kSide == Side::keys;
  constexpr int kColumns = B::kOther / kLanes<kWidth>, kStride = Tile<B::kOther>::kStride;
  const SampleShape& s = args.shape;
  const AttentionShape shape = one_head(s);
  const int64_t own = kKeySide ? s.keys : s.queries, other = kKeySide ? s.queries : s.keys;
  const int64_t tiles = (own + kRows - 1) / kRows;
  const Head head(shape, blockIdx.x / tiles, args.key_mask);
  const int64_t first = blockIdx.x % tiles * kRows;
  float* x = dynamic_shared<float>();
  float* y = x + kRows * Tile<kWidth>::kStride;
  float* ds = y + B::kOther * Tile<kWidth>::kStride;
  const int lane = static_cast<int>(threadIdx.x) % kLanes<kWidth>;
  const int row = static_cast<int>(threadIdx.x) / kLanes<kWidth> * kRowsOfThread<kWidth>;
  const auto q = head.queries(args.q), k = head.keys(args.k);
  load_tile<kWidth, kRows, kThreads>(kKeySide ? k : q, first, x);
  float4 dx[kRowsOfThread<kWidth>][kWidth / (4 * kLanes<kWidth>)] = {};
  for (int64_t at = 0; at < other; at += B::kOther) {
    __syncthreads();
    load_tile<kWidth, B::kOther, kThreads>(kKeySide ? q : k, at, y);
    __syncthreads();
    float dot[kRowsOfThread<kWidth>][kColumns] = {};
    attention_tile::add_dots<kWidth>(x, row, y, lane, dot);
#pragma unroll
    for (int r = 0; r < kRowsOfThread<kWidth>; ++r)
#pragma unroll
      for (int c = 0; c < kColumns; ++c) {
        const int64_t mine = first + row + r, theirs = at + lane + c * kLanes<kWidth>;
        const int64_t i = kKeySide ? theirs : mine, j = kKeySide ? mine : theirs;
        const float score = dot[r][c] * static_cast<float>(s.scale);
        float value = 0.f;
        if (i < s.queries && head.sees(i, j) && score != -INFINITY)
          value = -args.rest[head.saved(i)] * expf(score - args.log_rest[head.saved(i)]);
        ds[(row + r) * kStride + lane + c * kLanes<kWidth>] = value;
      }
    __syncthreads();
    // A thread per query puts its draws in.
    const int64_t query = (kKeySide ? at : first) + threadIdx.x;
    if (threadIdx.x < (kKeySide ? B::kOther : kRows) && query < s.queries) {
      const int64_t draws = head.saved(query) * s.count, begin = kKeySide ? first : at;
      for (int64_t t = 0; t < s.count; ++t) {
        const int64_t j = args.indices[draws + t] - begin;
        if (args.indices[draws + t] < 0 || j < 0 || j >= (kKeySide ? kRows : B::kOther)) continue;
        float& value = ds[kKeySide ? j * kStride + threadIdx.x : threadIdx.x * kStride + j];
        const bool add = s.law == SampleLaw::with_replacement;
        value = add ? value + args.drawn[draws + t] : args.drawn[draws + t];
      }
    }
    __syncthreads();
    attention_tile::add_rows<kWidth, B::kOther>(ds, row, y, lane, dx);
  }
#pragma unroll
  for (int r = 0; r < kRowsOfThread<kWidth>; ++r) {
    const int64_t i = first + row + r;
    if (i >= own) continue;
    const auto scale = static_cast<float>(s.scale);
    if constexpr (kKeySide) {
      // A NaN elsewhere leaves a masked key's gradient 0.
      if (!head.there(i)) {
#pragma unroll
        for (auto& part : dx[r]) part = make_float4(0.f, 0.f, 0.f, 0.f);
      }
      attention_tile::store_row<kWidth>(head.keys(args.dk), i, lane, dx[r], scale);
    } else {
      attention_tile::store_row<kWidth>(head.queries(args.dq), i, lane, dx[r], scale);
    }
  }
}

template <int kWidth>
Status launch_forward(const AttentionTopkSampleArgs<float>& args, Stream stream) {
  const SampleShape& s = args.shape;
  const auto blocks = static_cast<unsigned>((s.queries + kRows - 1) / kRows * s.batch);
  return launch(s.law == SampleLaw::with_replacement ? forward_kernel<kWidth, true>
                                                     : forward_kernel<kWidth, false>,
                blocks, kThreads, Forward<kWidth>::kShared, stream, args);
}

template <int kWidth>
Status launch_backward(const AttentionTopkSampleBackwardArgs<float>& args, Stream stream) {
  const SampleShape& s = args.shape;
  const auto blocks = [&](int64_t own) {
    return static_cast<unsigned>((own + kRows - 1) / kRows * s.batch);
  };
  if (s.queries > 0) {
    const Status status = launch(backward_kernel<kWidth, Side::queries>, blocks(s.queries),
                                 kThreads, Backward<kWidth>::kShared, stream, args);
    if (!status.ok()) return status;
  }
  return launch(backward_kernel<kWidth, Side::keys>, blocks(s.keys), kThreads,
                Backward<kWidth>::kShared, stream, args);
}

}  // namespace

Status attention_topk_sample(const AttentionTopkSampleArgs<float>& args, Stream stream) {
  const SampleShape& s = args.shape;
  if (s.batch * s.queries == 0) return {};
  if (s.width <= 32) return launch_forward<32>(args, stream);
  return s.width <= 64 ? launch_forward<64>(args, stream) : launch_forward<128>(args, stream);
}

Status attention_topk_sample_backward(const AttentionTopkSampleBackwardArgs<float>& args,
                                      Stream stream) {
  const SampleShape& s = args.shape;
  if (s.batch == 0) return {};
  if (s.queries > 0) {
    const Status status =
        launch(rows_kernel, blocks_for(s.batch * s.queries, kThreads), kThreads, 0, stream, args);
    if (!status.ok()) return status;
  }
  if (s.width <= 32) return launch_backward<32>(args, stream);
  return s.width <= 64 ? launch_backward<64>(args, stream) : launch_backward<128>(args, stream);
}

}  // namespace stillpoint::kernels::cuda
