// refine_factor on CUDA: one launch for all refinements.
#include "kernels/common/reduce.cuh"
#include "kernels/refine_factor/refine_factor.h"
#include "kernels/refine_factor/warp_tile.cuh"

namespace stillpoint::kernels::cuda {
namespace {

// Warps of a block; with sizes that the compiler does not know a lane needs more registers.
template <bool kFits>
constexpr int kMostWarps = kFits ? 12 : 8;
template <bool kFits>
constexpr int kMostThreads = kMostWarps<kFits>* kWarpSize;
constexpr int kLeastWarps = 4;
// Rows of a lane, and of a tile.
template <bool kFits>
constexpr int kRows = kFits ? 8 : 2;
template <bool kFits>
constexpr int kTileRows = kGroups* kRows<kFits>;
// Groups of rows whose gradients of weights are summed apart, so that there is work for all warps.
constexpr int kSplits = 3;
constexpr int kPackThreads = 256;

enum class Direction : uint8_t { forward, backward };

// ---- sizes -------------------------------------------------------------------------------------

// Columns as the kernels count them: padded with zeros, C to a multiple of 32 and hidden to one of
// 64. In a tile, what is made of h lies in the columns [0, c), of m in [c, 2 c) and u from `hidden`
// on. Rows of a tile start in different banks.
template <bool kFits>
struct Width;
// The sizes of SymbolNet, known to the compiler, and no padding: u takes the place of h and m.
template <>
struct Width<true> {
  static constexpr int c = 32, n = 64, hidden = 0, stride = 64 + 4;

  STILLPOINT_HD explicit Width(const RefineFactorSizes&) {}
  static bool holds(const RefineFactorSizes& z) { return z.channels == c && z.hidden == n; }
};
template <>
struct Width<false> {
  int c, n, hidden, stride;

  STILLPOINT_HD explicit Width(const RefineFactorSizes& z)
      : c(padded(z.channels, 32)), n(padded(z.hidden, 64)), hidden(2 * c), stride(2 * c + n + 4) {}
  STILLPOINT_HD static int padded(int64_t x, int to) {
    return x <= to ? to : static_cast<int>((x + to - 1) / to * to);
  }
};
using Padded = Width<false>;

// Some of the parameters, as three indices: their numbers, the same padded, and from one to the
// next where the caller has them.
struct Part {
  int64_t count[3], padded[3], step[3];

  STILLPOINT_HD int64_t size() const { return padded[0] * padded[1] * padded[2]; }
};

// Calls body(parameters, part) for what the kernels read, in the order of Packed: matrices
// [k, columns], then biases and clues.
template <class Body>
STILLPOINT_HD void for_packed(Direction direction, const RefineFactorSizes& z,
                              const RefineFactorParameters<const float*>& w, const Body& body) {
  const int64_t c = z.channels, n = z.hidden, t = z.types.count;
  const Padded pad(z);
  const int64_t pc = pad.c, pn = pad.n;
  body(w.message, Part{{1, c, c}, {1, pc, pc}, {0, 1, c}});
  body(w.factor, Part{{t, c, c}, {t, pc, pc}, {c * c, 1, c}});
  if (direction == Direction::forward) {
    body(w.collect, Part{{t, c, n}, {t, pc, pn}, {c, 1, t * c}});
    body(w.own, Part{{2, c, n}, {2, pc, pn}, {c, 1, 2 * c}});
    body(w.update, Part{{1, n, c}, {1, pn, pc}, {0, 1, n}});
  } else {
    body(w.message, Part{{1, c, c}, {1, pc, pc}, {0, c, 1}});
    body(w.factor, Part{{t, c, c}, {t, pc, pc}, {c * c, c, 1}});
    body(w.collect, Part{{t, n, c}, {t, pn, pc}, {c, t * c, 1}});
    body(w.own, Part{{n, 2, c}, {pn, 2, pc}, {2 * c, c, 1}});
    body(w.update, Part{{1, c, n}, {1, pc, pn}, {0, n, 1}});
  }
  body(w.message_bias, Part{{1, 1, c}, {1, 1, pc}, {0, 0, 1}});
  body(w.factor_bias, Part{{1, t, c}, {1, t, pc}, {0, c, 1}});
  body(w.update_bias, Part{{1, 1, c}, {1, 1, pc}, {0, 0, 1}});
  body(w.clue, Part{{1, z.kinds, n}, {1, z.kinds, pn}, {0, n, 1}});
}

// What for_packed lists.
struct Packed {
  const float *message, *factor, *message_back, *factor_back;  // _back in the backward alone
  const float *collect, *own, *update;
  const float *message_bias, *factor_bias, *update_bias, *clue;

  STILLPOINT_HD static int64_t matrices(Direction direction, const RefineFactorSizes& z) {
    const Padded pad(z);
    const int64_t c = pad.c, n = pad.n, t = z.types.count;
    return (direction == Direction::forward ? 1 : 2) * (1 + t) * c * c + (t + 3) * c * n;
  }
  STILLPOINT_HD static int64_t rows(const RefineFactorSizes& z) {
    const Padded pad(z);
    return (z.types.count + 2) * int64_t{pad.c} + z.kinds * pad.n;
  }

  template <bool kFits>
  __device__ __forceinline__ Packed(Direction direction, const Width<kFits>& w, int types,
                                    const float* matrices, const float* rows) {
    message = matrices;
    factor = message + w.c * w.c;
    message_back = factor + types * w.c * w.c;
    factor_back = message_back + w.c * w.c;
    collect = direction == Direction::forward ? message_back : factor_back + types * w.c * w.c;
    own = collect + types * w.c * w.n;
    update = own + 2 * w.c * w.n;
    message_bias = rows;
    factor_bias = message_bias + w.c;
    update_bias = factor_bias + types * w.c;
    clue = update_bias + w.c;
  }
};

// The gradients of the parameters, padded: [out, in] as the parameters lie.
template <class Body>
STILLPOINT_HD void for_gradients(const RefineFactorSizes& z,
                                 const RefineFactorParameters<float*>& d, const Body& body) {
  const int64_t c = z.channels, n = z.hidden, t = z.types.count;
  const Padded pad(z);
  const int64_t pc = pad.c, pn = pad.n;
  body(d.message, Part{{1, c, c}, {1, pc, pc}, {0, c, 1}});
  body(d.message_bias, Part{{1, 1, c}, {1, 1, pc}, {0, 0, 1}});
  body(d.factor, Part{{t, c, c}, {t, pc, pc}, {c * c, c, 1}});
  body(d.factor_bias, Part{{1, t, c}, {1, t, pc}, {0, c, 1}});
  body(d.collect, Part{{n, t, c}, {pn, t, pc}, {t * c, c, 1}});
  body(d.own, Part{{n, 2, c}, {pn, 2, pc}, {2 * c, c, 1}});
  body(d.clue, Part{{1, z.kinds, n}, {1, z.kinds, pn}, {0, n, 1}});
  body(d.update, Part{{1, c, n}, {1, pc, pn}, {0, n, 1}});
  body(d.update_bias, Part{{1, 1, c}, {1, 1, pc}, {0, 0, 1}});
}
// The same as split_parameters has it, of padded sizes.
STILLPOINT_HD RefineFactorSizes padded_sizes(RefineFactorSizes z) {
  const Padded pad(z);
  z.channels = pad.c;
  z.hidden = pad.n;
  return z;
}

// Memory of one block. The tiles of the variables are whole in it; those of factors are not, since
// the next type begins where one ends.
STILLPOINT_HD int64_t node_rows(const RefineFactorSizes& z) {
  constexpr int kRows = kTileRows<true>;
  static_assert(kRows % kTileRows<false> == 0);
  return (z.nodes + kRows - 1) / kRows * kRows;
}
struct ForwardScratch {
  float *h, *m, *v, *tiles;

  STILLPOINT_HD ForwardScratch(float* at, const RefineFactorSizes& z) {
    const Padded pad(z);
    h = at;
    m = h + node_rows(z) * pad.c;
    v = m + node_rows(z) * pad.c;
    tiles = v + z.factors() * pad.n;
  }
  STILLPOINT_HD static int64_t size(const RefineFactorSizes& z) {
    const Padded pad(z);
    return 2 * node_rows(z) * pad.c + z.factors() * pad.n;
  }
};
struct BackwardScratch {
  float *dh, *dy, *m, *dm, *h;  // [nodes, c]
  float *du, *u;                // [nodes, n]
  float *s, *p, *dp, *ds;       // [factors, c]
  float* dv;                    // [factors, n]
  float* tiles;

  STILLPOINT_HD BackwardScratch(float* at, const RefineFactorSizes& z) {
    const Padded pad(z);
    const int64_t state = node_rows(z) * pad.c, factors = z.factors() * pad.c;
    dh = at;
    dy = dh + state;
    m = dy + state;
    dm = m + state;
    h = dm + state;
    du = h + state;
    u = du + node_rows(z) * pad.n;
    s = u + node_rows(z) * pad.n;
    p = s + factors;
    dp = p + factors;
    ds = dp + factors;
    dv = ds + factors;
    tiles = dv + z.factors() * pad.n;
  }
  STILLPOINT_HD static int64_t size(const RefineFactorSizes& z) {
    const Padded pad(z);
    return node_rows(z) * (5 * pad.c + 2 * pad.n) + z.factors() * (4 * pad.c + pad.n);
  }
};

// How a direction is launched, from the sizes and the device alone. Tiles of fewer than kLeastWarps
// warps are not worth their room in shared memory: they are in the workspace then.
struct Plan {
  bool fits;  // Width<true>, the matrices in shared memory with the tiles
  bool tiles_in_shared;
  unsigned warps, blocks;
  size_t shared_bytes = 0;
  int64_t packed, scratch;  // floats; `scratch` of one block

  // `aligned`: the caller's rows can be read as float4. What lies in the workspace is the same if
  // not, since the tiles of Width<false> need no more room than the matrices beside Width<true>'s.
  Plan(Direction direction, const RefineFactorSizes& z, bool aligned = true) {
    int device = 0, multiprocessors = 1, limit = 0;
    (void)cudaGetDevice(&device);
    (void)cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device);
    (void)cudaDeviceGetAttribute(&limit, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
    const auto floats = static_cast<int64_t>(limit / sizeof(float)) - kReserved;
    int64_t matrices = Packed::matrices(direction, z);
    packed = matrices + Packed::rows(z);
    int64_t tile = kTileRows<true> * Width<true>::stride;
    fits = aligned && Width<true>::holds(z) && floats - matrices >= kLeastWarps * tile;
    if (!fits) {
      matrices = 0;
      tile = kTileRows<false> * Width<false>(z).stride;
    }
    int64_t room = (floats - matrices) / tile / kLeastWarps * kLeastWarps;
    tiles_in_shared = room >= kLeastWarps;
    const int64_t most = fits ? kMostWarps<true> : kMostWarps<false>;
    warps = static_cast<unsigned>(tiles_in_shared && room < most ? room : most);
    if (tiles_in_shared)
      shared_bytes = static_cast<size_t>(matrices + warps * tile) * sizeof(float);
    blocks = static_cast<unsigned>(z.boards < multiprocessors ? z.boards : multiprocessors);
    scratch = direction == Direction::forward ? ForwardScratch::size(z) : BackwardScratch::size(z);
    if (!tiles_in_shared) scratch += warps * tile;
  }

 private:
  static constexpr int64_t kReserved = 64;  // floats of static shared memory
};

// ---- what both directions do -------------------------------------------------------------------

__device__ __forceinline__ float relu(float x) { return x < 0.f ? 0.f : x; }  // keeps NaN
__device__ __forceinline__ float4 relu(float4 v) {
  return make_float4(relu(v.x), relu(v.y), relu(v.z), relu(v.w));
}
__device__ __forceinline__ float masked(float g, float y) { return y > 0.f ? g : 0.f; }
__device__ __forceinline__ float4 masked(float4 g, float4 y) {
  return make_float4(masked(g.x, y.x), masked(g.y, y.y), masked(g.z, y.z), masked(g.w, y.w));
}
__device__ __forceinline__ float4 scaled(float4 v, float by) {
  return make_float4(v.x * by, v.y * by, v.z * by, v.w * by);
}

// What a warp works with.
template <bool kFits>
struct Warp {
  const RefineFactorSizes& z;
  Width<kFits> w;
  Packed packed;
  Lane lane;
  float* tile;  // the warp's
  int first, warps;
  bool full;  // no column is padding

  // The lane's first number in the columns of the tile from `column` on.
  __device__ __forceinline__ float* mine(int column) const {
    return tile + lane.group * w.stride + column + lane.column;
  }
  __device__ __forceinline__ float* at(int r, int column) const {
    return mine(column) + kGroups * r * w.stride;
  }
  // The same without the lane's column: the left factor of a product.
  __device__ __forceinline__ const float* left(int column) const {
    return tile + lane.group * w.stride + column;
  }
  template <int kJ>
  __device__ __forceinline__ void multiply(int column, const float* b, int b_row, int jump,
                                           int depth, Sums<kRows<kFits>, kJ>& sums) const {
    cuda::multiply(left(column), w.stride, b + lane.column, b_row, jump, depth, sums);
  }
  // Padding stays 0 whatever a product made of infinities.
  __device__ __forceinline__ float4 clean(float4 v, int column, int64_t n) const {
    if constexpr (kFits) return v;
    return full ? v : inside(v, column + lane.column, static_cast<int>(n));
  }
};

template <bool kFits>
using TileAt = LaneRows<kRows<kFits>>;
// The caller's rows of C floats, of hidden floats.
template <class T, bool kFits>
using StateRows = Rows<T, kFits ? Width<true>::c : 0>;
template <class T, bool kFits>
using HiddenRows = Rows<T, kFits ? Width<true>::n : 0>;

// body(tile) for the warp's tiles of variables.
template <bool kFits, class Body>
__device__ __forceinline__ void for_nodes(const Warp<kFits>& x, const Body& body) {
  const int nodes = static_cast<int>(x.z.nodes);
  for (int begin = x.first * kTileRows<kFits>; begin < nodes; begin += x.warps * kTileRows<kFits>)
    body(TileAt<kFits>(begin, nodes, x.lane));
}
// body(tile, type) for the warp's tiles of factors; no tile has two types.
template <bool kFits, class Body>
__device__ __forceinline__ void for_factors(const Warp<kFits>& x, const Body& body) {
  int tile = x.first;
#pragma unroll 1
  for (int t = 0; t < x.z.types.count; ++t) {
    const int first = x.z.types.first[t], end = x.z.types.first[t + 1];
    const int tiles = (end - first + kTileRows<kFits> - 1) / kTileRows<kFits>;
    for (; tile < tiles; tile += x.warps)
      body(TileAt<kFits>(first + tile * kTileRows<kFits>, end, x.lane), t);
    tile -= tiles;
  }
}

// m of a tile whose states are in the tile's columns from `column` on, into `m`.
template <bool kFits>
__device__ __forceinline__ void message(const Warp<kFits>& x, const TileAt<kFits>& tile, int column,
                                        float* m) {
  for (int k = 0; k < x.w.c; k += kTileColumns) {
    Sums<kRows<kFits>, 1> sums;
    const float4 bias = load4(x.packed.message_bias + k + x.lane.column);
#pragma unroll
    for (int r = 0; r < kRows<kFits>; ++r) sums[r][0] = bias;
    x.multiply(column, x.packed.message + k, x.w.c, 0, x.w.c, sums);
#pragma unroll
    for (int r = 0; r < kRows<kFits>; ++r)
      store4(m + tile.row(r) * x.w.c + k + x.lane.column,
             x.clean(relu(sums[r][0]), k, x.z.channels));
  }
}

// s of a tile of factors into the tile's columns [0, c) and, if wanted, into `s`.
template <bool kFits>
__device__ __forceinline__ void gather_messages(const Warp<kFits>& x, const CsrView& members,
                                                const TileAt<kFits>& tile, const float* m,
                                                float* s) {
  for (int k = 0; k < x.w.c; k += kTileColumns) {
    Sums<kRows<kFits>, 1> sums = {};
    add_gathered(members, tile, m + k + x.lane.column, x.w.c, 0, sums);
#pragma unroll
    for (int r = 0; r < kRows<kFits>; ++r) {
      store4(x.at(r, k), sums[r][0]);
      if (s != nullptr && tile.has(r))
        store4(s + tile.row(r) * x.w.c + k + x.lane.column, sums[r][0]);
    }
  }
  __syncwarp();
}

// p of a tile from s in its columns [0, c): finish(r, column, p).
template <bool kFits, class Finish>
__device__ __forceinline__ void factor_messages(const Warp<kFits>& x, int type,
                                                const Finish& finish) {
  for (int k = 0; k < x.w.c; k += kTileColumns) {
    Sums<kRows<kFits>, 1> sums;
    const float4 bias = load4(x.packed.factor_bias + type * x.w.c + k + x.lane.column);
#pragma unroll
    for (int r = 0; r < kRows<kFits>; ++r) sums[r][0] = bias;
    x.multiply(0, x.packed.factor + type * x.w.c * x.w.c + k, x.w.c, 0, x.w.c, sums);
#pragma unroll
    for (int r = 0; r < kRows<kFits>; ++r) finish(r, k, x.clean(relu(sums[r][0]), k, x.z.channels));
  }
}

// Makes the block's Warp: copies the matrices to shared memory, or leaves them where they are.
// `tiles` are the block's, or null where they are in shared memory.
template <bool kFits>
__device__ __forceinline__ Warp<kFits> start(Direction direction, const RefineFactorSizes& z,
                                             const float* packed, float* tiles) {
  const Width<kFits> w(z);
  const int64_t count = Packed::matrices(direction, z);
  const int warp = block_thread() / kWarpSize;
  auto* shared = dynamic_shared<float>();
  const float* matrices = packed;
  float* tile = tiles != nullptr ? tiles : shared;
  if constexpr (kFits) {
    for (int64_t k = 4 * block_thread(); k < count; k += 4 * block_threads())
      store4(shared + k, load4(packed + k));
    matrices = shared;
    tile = shared + count;
    __syncthreads();
  }
  return {.z = z,
          .w = w,
          .packed = Packed(direction, w, z.types.count, matrices, packed + count),
          .lane = {},
          .tile = tile + warp * kTileRows<kFits> * w.stride,
          .first = warp,
          .warps = block_threads() / kWarpSize,
          .full = z.channels == w.c && z.hidden == w.n};
}

// ---- forward -----------------------------------------------------------------------------------

// v of the factors from m of their members.
template <bool kFits>
__device__ __forceinline__ void refine_factors(const Warp<kFits>& x, const CsrView& members,
                                               const ForwardScratch& scratch) {
  for_factors(x, [&](const TileAt<kFits>& tile, int type) {
    gather_messages(x, members, tile, scratch.m, nullptr);
    factor_messages(x, type, [&](int r, int k, float4 p) { store4(x.at(r, x.w.c + k), p); });
    __syncwarp();
    for (int k = 0; k < x.w.n; k += 2 * kTileColumns) {
      Sums<kRows<kFits>, 2> sums = {};
      x.multiply(x.w.c, x.packed.collect + type * x.w.c * x.w.n + k, x.w.n, kTileColumns, x.w.c,
                 sums);
#pragma unroll
      for (int r = 0; r < kRows<kFits>; ++r)
        if (tile.has(r))
#pragma unroll
          for (int j = 0; j < 2; ++j)
            store4(scratch.v + tile.row(r) * x.w.n + k + j * kTileColumns + x.lane.column,
                   sums[r][j]);
    }
    __syncwarp();
  });
}

// The next states of the variables, and their m.
template <bool kFits>
__device__ __forceinline__ void refine_nodes(const Warp<kFits>& x, const CsrView& factors,
                                             const int32_t* clues, const ForwardScratch& scratch,
                                             const StateRows<float, kFits>& states,
                                             const HiddenRows<float, kFits>& u, float* r_out,
                                             bool last) {
  const int column = x.lane.column;
  for_nodes(x, [&](const TileAt<kFits>& tile) {
    for (int k = 0; k < x.w.c; k += kTileColumns)
#pragma unroll
      for (int r = 0; r < kRows<kFits>; ++r) {
        store4(x.at(r, k), load4(scratch.h + tile.row(r) * x.w.c + k + column));
        store4(x.at(r, x.w.c + k), load4(scratch.m + tile.row(r) * x.w.c + k + column));
      }
    __syncwarp();
    for (int k = 0; k < x.w.n; k += 2 * kTileColumns) {
      Sums<kRows<kFits>, 2> sums;
#pragma unroll
      for (int r = 0; r < kRows<kFits>; ++r) {
        const int32_t kind = clues[tile.existing(r)];
        const bool known = kind >= 0 && kind < x.z.kinds;
#pragma unroll
        for (int j = 0; j < 2; ++j)
          sums[r][j] = known ? load4(x.packed.clue + kind * x.w.n + k + j * kTileColumns + column)
                             : all<float4>(NAN);
      }
      add_gathered(factors, tile, scratch.v + k + column, x.w.n, kTileColumns, sums);
      x.multiply(0, x.packed.own + k, x.w.n, kTileColumns, 2 * x.w.c, sums);
      if constexpr (kFits) __syncwarp();  // h and m have been read
#pragma unroll
      for (int r = 0; r < kRows<kFits>; ++r)
#pragma unroll
        for (int j = 0; j < 2; ++j) {
          const int at = k + j * kTileColumns;
          const float4 v = x.clean(relu(sums[r][j]), at, x.z.hidden);
          store4(x.at(r, x.w.hidden + at), v);
          if (u.data != nullptr) u.store(tile, r, at + column, v);
        }
    }
    __syncwarp();
    for (int k = 0; k < x.w.c; k += kTileColumns) {
      Sums<kRows<kFits>, 1> sums;
      const float4 bias = load4(x.packed.update_bias + k + column);
#pragma unroll
      for (int r = 0; r < kRows<kFits>; ++r)
        sums[r][0] = add(load4(scratch.h + tile.row(r) * x.w.c + k + column), bias);
      x.multiply(x.w.hidden, x.packed.update + k, x.w.c, 0, x.w.n, sums);
      __syncwarp();  // u has been read
#pragma unroll
      for (int r = 0; r < kRows<kFits>; ++r)
        store4(x.at(r, k), x.clean(sums[r][0], k, x.z.channels));
    }
    float squares[kRows<kFits>] = {};
    for (int k = 0; k < x.w.c; k += kTileColumns)
#pragma unroll
      for (int r = 0; r < kRows<kFits>; ++r) {
        const float4 y = load4(x.at(r, k));
        squares[r] = dot_add(y, y, squares[r]);
      }
#pragma unroll
    for (int r = 0; r < kRows<kFits>; ++r) {
      const float mean = row_sum(squares[r]) / static_cast<float>(x.z.channels);
      squares[r] = 1.f / sqrtf(mean + static_cast<float>(x.z.epsilon));
      if (r_out != nullptr && column == 0 && tile.has(r)) r_out[tile.row(r)] = squares[r];
    }
    for (int k = 0; k < x.w.c; k += kTileColumns)
#pragma unroll
      for (int r = 0; r < kRows<kFits>; ++r) {
        const float4 h = scaled(load4(x.at(r, k)), squares[r]);
        store4(x.at(r, k), h);
        store4(scratch.h + tile.row(r) * x.w.c + k + column, h);
        if (states.data != nullptr) states.store(tile, r, k + column, h);
      }
    __syncwarp();
    if (!last) message(x, tile, 0, scratch.m);
    __syncwarp();
  });
}

template <bool kFits>
__global__ void __launch_bounds__(kMostThreads<kFits>, 1)
    forward_kernel(RefineFactorArgs<float> args, const float* packed, float* scratches,
                   int64_t scratch_size, bool tiles_in_shared, bool states_as_float4,
                   bool u_as_float4) {
  const RefineFactorSizes& z = args.sizes;
  const ForwardScratch scratch(scratches + blockIdx.x * scratch_size, z);
  const Warp<kFits> x =
      start<kFits>(Direction::forward, z, packed, tiles_in_shared ? nullptr : scratch.tiles);
  const int c = static_cast<int>(z.channels), n = static_cast<int>(z.hidden);
  const int64_t state = z.nodes * z.channels;
  const bool keep = args.u != nullptr;
  for (int64_t b = blockIdx.x; b < z.boards; b += gridDim.x) {
    const StateRows<const float, kFits> start_states{args.h + b * state, c, states_as_float4};
    for_nodes(x, [&](const TileAt<kFits>& tile) {
      for (int k = 0; k < x.w.c; k += kTileColumns)
#pragma unroll
        for (int r = 0; r < kRows<kFits>; ++r) {
          const float4 h = start_states.load(tile, r, k + x.lane.column);
          store4(x.at(r, k), h);
          store4(scratch.h + tile.row(r) * x.w.c + k + x.lane.column, h);
        }
      __syncwarp();
      message(x, tile, 0, scratch.m);
      __syncwarp();
    });
    __syncthreads();
    for (int64_t t = 0; t < z.steps; ++t) {
      const int64_t at = t * z.boards + b;
      const bool last = t + 1 == z.steps;
      refine_factors(x, args.members, scratch);
      __syncthreads();
      const StateRows<float, kFits> states{keep   ? args.states + at * state
                                           : last ? args.states + b * state
                                                  : nullptr,
                                           c, states_as_float4};
      const HiddenRows<float, kFits> u{keep ? args.u + at * z.nodes * n : nullptr, n, u_as_float4};
      refine_nodes(x, args.factors, args.clues + b * z.nodes, scratch, states, u,
                   keep ? args.r + at * z.nodes : nullptr, last);
      __syncthreads();
    }
  }
}

// ---- backward ----------------------------------------------------------------------------------

// Arrays of one board and step, as the caller has them.
template <bool kFits>
struct Step {
  StateRows<const float, kFits> h, out, g;
  HiddenRows<const float, kFits> u;
  const float* r;
  const int32_t* clues;
};

// From the gradient of the next states to that of y and of u; m again.
template <bool kFits>
__device__ __forceinline__ void nodes_backward(const Warp<kFits>& x, const Step<kFits>& step,
                                               const BackwardScratch& scratch, bool last,
                                               bool copies) {
  const int column = x.lane.column;
  for_nodes(x, [&](const TileAt<kFits>& tile) {
    // h' = r y, and so y = h' / r.
    float mean[kRows<kFits>] = {};
    for (int k = 0; k < x.w.c; k += kTileColumns)
#pragma unroll
      for (int r = 0; r < kRows<kFits>; ++r) {
        const int row = tile.row(r);
        float4 g = step.g.load(tile, r, k + column);
        if (!last) g = add(g, load4(scratch.dh + row * x.w.c + k + column));
        store4(x.at(r, k), g);
        mean[r] = dot_add(g, step.out.load(tile, r, k + column), mean[r]);
        const float4 h = step.h.load(tile, r, k + column);
        store4(x.at(r, x.w.c + k), h);
        if (copies) store4(scratch.h + row * x.w.c + k + column, h);
      }
#pragma unroll
    for (int r = 0; r < kRows<kFits>; ++r)
      mean[r] = row_sum(mean[r]) / static_cast<float>(x.z.channels);
    for (int k = 0; k < x.w.c; k += kTileColumns)
#pragma unroll
      for (int r = 0; r < kRows<kFits>; ++r) {
        const int row = tile.row(r);
        const float4 y = step.out.load(tile, r, k + column);
        const float4 dy =
            x.clean(scaled(multiply_add(-mean[r], y, load4(x.at(r, k))), step.r[tile.existing(r)]),
                    k, x.z.channels);
        store4(x.at(r, k), dy);
        store4(scratch.dy + row * x.w.c + k + column, dy);
      }
    __syncwarp();
    message(x, tile, x.w.c, scratch.m);
    for (int k = 0; k < x.w.n; k += 2 * kTileColumns) {
      Sums<kRows<kFits>, 2> sums = {};
      x.multiply(0, x.packed.update + k, x.w.n, kTileColumns, x.w.c, sums);
#pragma unroll
      for (int r = 0; r < kRows<kFits>; ++r)
#pragma unroll
        for (int j = 0; j < 2; ++j) {
          const int row = tile.row(r), at = k + j * kTileColumns + column;
          const float4 u = step.u.load(tile, r, at);
          store4(scratch.du + row * x.w.n + at, masked(sums[r][j], u));
          if (copies) store4(scratch.u + row * x.w.n + at, u);
        }
    }
    __syncwarp();
  });
}

// From the gradient of u to that of s; s and p again.
template <bool kFits>
__device__ __forceinline__ void factors_backward(const Warp<kFits>& x, const CsrView& members,
                                                 const BackwardScratch& scratch) {
  const int column = x.lane.column;
  for_factors(x, [&](const TileAt<kFits>& tile, int type) {
    gather_messages(x, members, tile, scratch.m, scratch.s);
    factor_messages(x, type, [&](int r, int k, float4 p) {
      if (tile.has(r)) store4(scratch.p + tile.row(r) * x.w.c + k + column, p);
    });
    __syncwarp();  // s has been read, and p can be
    for (int k = 0; k < x.w.n; k += 2 * kTileColumns) {
      Sums<kRows<kFits>, 2> sums = {};
      add_gathered(members, tile, scratch.du + k + column, x.w.n, kTileColumns, sums);
#pragma unroll
      for (int r = 0; r < kRows<kFits>; ++r)
#pragma unroll
        for (int j = 0; j < 2; ++j) {
          const int at = k + j * kTileColumns;
          store4(x.at(r, x.w.hidden + at), sums[r][j]);
          if (tile.has(r)) store4(scratch.dv + tile.row(r) * x.w.n + at + column, sums[r][j]);
        }
    }
    __syncwarp();
    for (int k = 0; k < x.w.c; k += kTileColumns) {
      Sums<kRows<kFits>, 1> sums = {};
      x.multiply(x.w.hidden, x.packed.collect + type * x.w.c * x.w.n + k, x.w.c, 0, x.w.n, sums);
      if constexpr (kFits) __syncwarp();  // the gradient of v has been read
#pragma unroll
      for (int r = 0; r < kRows<kFits>; ++r) {
        const int at = tile.row(r) * x.w.c + k + column;
        const float4 p = tile.has(r) ? load4(scratch.p + at) : all<float4>(0.f);
        const float4 dp = masked(sums[r][0], p);
        store4(x.at(r, k), dp);
        if (tile.has(r)) store4(scratch.dp + at, dp);
      }
    }
    __syncwarp();
    for (int k = 0; k < x.w.c; k += kTileColumns) {
      Sums<kRows<kFits>, 1> sums = {};
      x.multiply(0, x.packed.factor_back + type * x.w.c * x.w.c + k, x.w.c, 0, x.w.c, sums);
#pragma unroll
      for (int r = 0; r < kRows<kFits>; ++r)
        if (tile.has(r)) store4(scratch.ds + tile.row(r) * x.w.c + k + column, sums[r][0]);
    }
    __syncwarp();
  });
}

// From the gradients of u, y and s to those of m and h.
template <bool kFits>
__device__ __forceinline__ void states_backward(const Warp<kFits>& x, const CsrView& factors,
                                                const BackwardScratch& scratch,
                                                const StateRows<float, kFits>& dh) {
  const int column = x.lane.column;
  for_nodes(x, [&](const TileAt<kFits>& tile) {
    for (int k = 0; k < x.w.n; k += kTileColumns)
#pragma unroll
      for (int r = 0; r < kRows<kFits>; ++r)
        store4(x.at(r, x.w.hidden + k), load4(scratch.du + tile.row(r) * x.w.n + k + column));
    __syncwarp();
    for (int k = 0; k < x.w.c; k += kTileColumns) {
      Sums<kRows<kFits>, 1> gathered = {};
      add_gathered(factors, tile, scratch.ds + k + column, x.w.c, 0, gathered);
      Sums<kRows<kFits>, 2> sums;  // of h, of m
#pragma unroll
      for (int r = 0; r < kRows<kFits>; ++r) {
        sums[r][0] = load4(scratch.dy + tile.row(r) * x.w.c + k + column);
        sums[r][1] = gathered[r][0];
      }
      x.multiply(x.w.hidden, x.packed.own + k, 2 * x.w.c, x.w.c, x.w.n, sums);
      if constexpr (kFits) __syncwarp();  // the gradient of u has been read
#pragma unroll
      for (int r = 0; r < kRows<kFits>; ++r) {
        const int at = tile.row(r) * x.w.c + k + column;
        const float4 dm = masked(sums[r][1], load4(scratch.m + at));
        store4(x.at(r, k), dm);
        store4(x.at(r, x.w.c + k), sums[r][0]);
        store4(scratch.dm + at, dm);
      }
    }
    __syncwarp();
    for (int k = 0; k < x.w.c; k += kTileColumns) {
      Sums<kRows<kFits>, 1> sums;
#pragma unroll
      for (int r = 0; r < kRows<kFits>; ++r) sums[r][0] = load4(x.at(r, x.w.c + k));
      x.multiply(0, x.packed.message_back + k, x.w.c, 0, x.w.c, sums);
#pragma unroll
      for (int r = 0; r < kRows<kFits>; ++r) {
        const float4 v = x.clean(sums[r][0], k, x.z.channels);
        if (dh.data != nullptr)
          dh.store(tile, r, k + column, v);
        else
          store4(scratch.dh + tile.row(r) * x.w.c + k + column, v);
      }
    }
    __syncwarp();
  });
}

// sum [32, 32] += dy^T x over `rows` rows; rows of each start so far apart.
__device__ __forceinline__ void add_outer(const Lane& lane, float* sum, int sum_row,
                                          const float* dy, int dy_row, const float* x, int x_row,
                                          int rows) {
  constexpr int kOut = kTileColumns / kGroups;
  dy += kOut * lane.group;
  x += lane.column;
  float4 sums[kOut] = {};
#pragma unroll 4
  for (int i = 0; i < rows; ++i) {
    const float4 right = load4(x + i * x_row);
#pragma unroll
    for (int o = 0; o < kOut; o += 4) {
      const float4 left = load4(dy + i * dy_row + o);
#pragma unroll
      for (int q = 0; q < 4; ++q) sums[o + q] = multiply_add(part(left, q), right, sums[o + q]);
    }
  }
  sum += kOut * lane.group * sum_row + lane.column;
#pragma unroll
  for (int o = 0; o < kOut; ++o) store4(sum + o * sum_row, add(load4(sum + o * sum_row), sums[o]));
}

// sum [k] [32] += the rows of x that are of kind k, k < kinds <= kMost.
template <int kMost, class KindOf>
__device__ __forceinline__ void add_rows(const Lane& lane, float* sum, int sum_row, int kinds,
                                         const float* x, int x_row, int rows,
                                         const KindOf& kind_of) {
  float4 sums[kMost] = {};
#pragma unroll 4
  for (int i = lane.group; i < rows; i += kGroups) {
    const float4 v = load4(x + i * x_row + lane.column);
    const int kind = kind_of(i);
#pragma unroll
    for (int k = 0; k < kMost; ++k)
      if (kind == k) sums[k] = add(sums[k], v);
  }
#pragma unroll
  for (int k = 0; k < kMost; ++k) {
    const float4 total = make_float4(group_sum(sums[k].x), group_sum(sums[k].y),
                                     group_sum(sums[k].z), group_sum(sums[k].w));
    float* to = sum + k * sum_row + lane.column;
    if (k < kinds && lane.group == 0) store4(to, add(load4(to), total));
  }
}

// Adds a step's gradients of the parameters to `sums`, kSplits times what for_gradients lists.
// Warps take one task after the other, the long ones first: which warp takes which does not matter
// to the sums. Between two barriers; `next` is 0.
template <bool kFits>
__device__ __forceinline__ void add_gradients(const Warp<kFits>& x, const Step<kFits>& step,
                                              const BackwardScratch& scratch, bool copies,
                                              float* sums, int64_t count, int* next) {
  constexpr int kKinds = 4;  // of clues in a task
  const Width<kFits>& w = x.w;
  const int nodes = static_cast<int>(x.z.nodes), types = x.z.types.count;
  const int kinds = static_cast<int>(x.z.kinds);
  const int across = w.c / kTileColumns, down = w.n / kTileColumns;
  const int own = down * 2 * across, update = across * down, messages = across * across;
  const int clues = (kinds + kKinds - 1) / kKinds * down, collect = down * across;
  const RefineFactorSizes padded = padded_sizes(x.z);
  const float* h = copies ? scratch.h : step.h.data;
  const float* u = copies ? scratch.u : step.u.data;
  const auto outer = [&](int tile, int tiles_across, float* sum, int sum_row, const float* dy,
                         int dy_row, const float* in, int in_row, int rows) {
    const int i = tile / tiles_across * kTileColumns, j = tile % tiles_across * kTileColumns;
    add_outer(x.lane, sum + i * sum_row + j, sum_row, dy + i, dy_row, in + j, in_row, rows);
  };
  for (;;) {
    int task = 0;
    if (block_thread() % kWarpSize == 0) task = atomicAdd(next, 1);
    task = __shfl_sync(kFullMask, task, 0);
    if (task < kSplits * (own + update + messages)) {
      const int split = task % kSplits, begin = nodes * split / kSplits;
      const int rows = nodes * (split + 1) / kSplits - begin;
      const RefineFactorParameters<float*> d = split_parameters(sums + split * count, padded);
      task /= kSplits;
      if (task < own) {
        const int i = task / (2 * across) * kTileColumns, j = task % (2 * across) * kTileColumns;
        add_outer(x.lane, d.own + i * 2 * w.c + j, 2 * w.c, scratch.du + begin * w.n + i, w.n,
                  (j < w.c ? h + j : scratch.m + j - w.c) + begin * w.c, w.c, rows);
      } else if ((task -= own) < update) {
        outer(task, down, d.update, w.n, scratch.dy + begin * w.c, w.c, u + begin * w.n, w.n, rows);
      } else {
        outer(task - update, across, d.message, w.c, scratch.dm + begin * w.c, w.c, h + begin * w.c,
              w.c, rows);
      }
      continue;
    }
    task -= kSplits * (own + update + messages);
    const RefineFactorParameters<float*> d = split_parameters(sums, padded);
    if (task < clues) {
      const int first = task / down * kKinds, j = task % down * kTileColumns;
      add_rows<kKinds>(x.lane, d.clue + first * w.n + j, w.n, kinds - first, scratch.du + j, w.n,
                       nodes, [&](int i) { return step.clues[i] - first; });
      continue;
    }
    task -= clues;
    if (task < types * (collect + messages)) {
      const int type = task / (collect + messages);
      const int first = x.z.types.first[type], rows = x.z.types.first[type + 1] - first;
      task %= collect + messages;
      if (task < collect)
        outer(task, across, d.collect + type * w.c, types * w.c, scratch.dv + first * w.n, w.n,
              scratch.p + first * w.c, w.c, rows);
      else
        outer(task - collect, across, d.factor + type * w.c * w.c, w.c, scratch.dp + first * w.c,
              w.c, scratch.s + first * w.c, w.c, rows);
      continue;
    }
    task -= types * (collect + messages);
    if (task >= (2 + types) * across) break;
    const int j = task % across * kTileColumns;
    task /= across;
    float* sum = d.update_bias;
    const float* from = scratch.dy;
    int rows = nodes;
    if (task == 1) {
      sum = d.message_bias;
      from = scratch.dm;
    } else if (task > 1) {
      const int first = x.z.types.first[task - 2];
      sum = d.factor_bias + (task - 2) * w.c;
      from = scratch.dp + first * w.c;
      rows = x.z.types.first[task - 1] - first;
    }
    add_rows<1>(x.lane, sum + j, 0, 1, from + j, w.c, rows, [](int) { return 0; });
  }
}

template <bool kFits>
__global__ void __launch_bounds__(kMostThreads<kFits>, 1)
    backward_kernel(RefineFactorBackwardArgs<float> args, const float* packed, float* scratches,
                    int64_t scratch_size, bool tiles_in_shared, float* all_sums, int64_t count,
                    bool states_as_float4, bool u_as_float4) {
  STILLPOINT_SHARED(int, next_task);
  const RefineFactorSizes& z = args.sizes;
  const BackwardScratch scratch(scratches + blockIdx.x * scratch_size, z);
  const Warp<kFits> x =
      start<kFits>(Direction::backward, z, packed, tiles_in_shared ? nullptr : scratch.tiles);
  const int c = static_cast<int>(z.channels), n = static_cast<int>(z.hidden);
  const int64_t state = z.nodes * z.channels;
  const bool wanted = args.dparameters != nullptr;
  float* sums = all_sums + blockIdx.x * kSplits * count;
  if (wanted)
    for (int64_t k = block_thread(); k < kSplits * count; k += block_threads()) sums[k] = 0.f;
  const bool copies = !kFits && wanted && !(x.full && states_as_float4 && u_as_float4);
  for (int64_t b = blockIdx.x; b < z.boards; b += gridDim.x) {
    for (int64_t t = z.steps; t-- > 0;) {
      const int64_t at = t * z.boards + b;
      const Step<kFits> step{
          .h = {t == 0 ? args.h + b * state : args.states + (at - z.boards) * state, c,
                states_as_float4},
          .out = {args.states + at * state, c, states_as_float4},
          .g = {args.g + at * state, c, states_as_float4},
          .u = {args.u + at * z.nodes * n, n, u_as_float4},
          .r = args.r + at * z.nodes,
          .clues = args.clues + b * z.nodes};
      nodes_backward(x, step, scratch, t + 1 == z.steps, copies);
      if (block_thread() == 0) next_task = 0;
      __syncthreads();
      factors_backward(x, args.members, scratch);
      __syncthreads();
      states_backward(x, args.factors, scratch,
                      {t == 0 ? args.dh + b * state : nullptr, c, states_as_float4});
      __syncthreads();
      if (!wanted) continue;
      add_gradients(x, step, scratch, copies, sums, count, &next_task);
      __syncthreads();
    }
  }
}

// ---- before and after --------------------------------------------------------------------------

__global__ void __launch_bounds__(kPackThreads)
    pack_kernel(Direction direction, RefineFactorSizes z, RefineFactorParameters<const float*> w,
                float* packed) {
  for_packed(direction, z, w, [&](const float* from, const Part& part) {
    for (int64_t e = global_thread(); e < part.size(); e += grid_threads()) {
      const int64_t k = e % part.padded[2], j = e / part.padded[2] % part.padded[1];
      const int64_t i = e / part.padded[2] / part.padded[1];
      const bool real = i < part.count[0] && j < part.count[1] && k < part.count[2];
      packed[e] = real ? from[i * part.step[0] + j * part.step[1] + k * part.step[2]] : 0.f;
    }
    packed += part.size();
  });
}

// The blocks' sums, added in their order.
__global__ void __launch_bounds__(kPackThreads)
    add_sums_kernel(const float* sums, int64_t parts, int64_t size, RefineFactorSizes z,
                    float* dparameters) {
  for_gradients(z, split_parameters(dparameters, z), [&](float* to, const Part& part) {
    const int64_t count = part.count[0] * part.count[1] * part.count[2];
    for (int64_t e = global_thread(); e < count; e += grid_threads()) {
      const int64_t k = e % part.count[2], j = e / part.count[2] % part.count[1];
      const int64_t i = e / part.count[2] / part.count[1];
      const float* from = sums + (i * part.padded[1] + j) * part.padded[2] + k;
      float total = 0.f;
      for (int64_t b = 0; b < parts; ++b) total += from[b * size];
      to[i * part.step[0] + j * part.step[1] + k * part.step[2]] = total;
    }
    sums += part.size();
  });
}

Status pack(Direction direction, const RefineFactorSizes& z,
            const RefineFactorParameters<const float*>& w, int64_t count, float* packed,
            Stream stream) {
  return launch(pack_kernel, blocks_for(count, kPackThreads), kPackThreads, 0, stream, direction, z,
                w, packed);
}

bool nothing_to_do(const RefineFactorSizes& z) { return z.boards * z.nodes * z.channels == 0; }

}  // namespace

int64_t refine_factor_workspace(const RefineFactorSizes& z) {
  const Plan plan(Direction::forward, z);
  return plan.packed + plan.blocks * plan.scratch;
}

int64_t refine_factor_backward_workspace(const RefineFactorSizes& z) {
  const Plan plan(Direction::backward, z);
  return plan.packed + plan.blocks * (plan.scratch + kSplits * parameter_count(padded_sizes(z)));
}

Status refine_factor(const RefineFactorArgs<float>& args, Stream stream) {
  const RefineFactorSizes& z = args.sizes;
  if (nothing_to_do(z)) return {};
  const bool states_as_float4 = rows_take_float4(z.channels, args.h, args.states);
  const bool u_as_float4 = rows_take_float4(z.hidden, args.u);
  const Plan plan(Direction::forward, z, states_as_float4 && u_as_float4);
  const Status status =
      pack(Direction::forward, z, args.parameters, plan.packed, args.workspace, stream);
  if (!status.ok()) return status;
  return launch(plan.fits ? forward_kernel<true> : forward_kernel<false>, plan.blocks,
                plan.warps * kWarpSize, plan.shared_bytes, stream, args, args.workspace,
                args.workspace + plan.packed, plan.scratch, plan.tiles_in_shared, states_as_float4,
                u_as_float4);
}

Status refine_factor_backward(const RefineFactorBackwardArgs<float>& args, Stream stream) {
  const RefineFactorSizes& z = args.sizes;
  const bool states_as_float4 = rows_take_float4(z.channels, args.h, args.states, args.g, args.dh);
  const bool u_as_float4 = rows_take_float4(z.hidden, args.u);
  const Plan plan(Direction::backward, z, states_as_float4 && u_as_float4);
  float* scratches = args.workspace + plan.packed;
  float* sums = scratches + plan.blocks * plan.scratch;
  const int64_t size = parameter_count(padded_sizes(z));
  if (!nothing_to_do(z)) {
    Status status =
        pack(Direction::backward, z, args.parameters, plan.packed, args.workspace, stream);
    if (!status.ok()) return status;
    status =
        launch(plan.fits ? backward_kernel<true> : backward_kernel<false>, plan.blocks,
               plan.warps * kWarpSize, plan.shared_bytes, stream, args, args.workspace, scratches,
               plan.scratch, plan.tiles_in_shared, sums, size, states_as_float4, u_as_float4);
    if (!status.ok()) return status;
  }
  const int64_t count = parameter_count(z);
  if (args.dparameters == nullptr || count == 0) return {};
  return launch(add_sums_kernel, blocks_for(count, kPackThreads), kPackThreads, 0, stream, sums,
                nothing_to_do(z) ? 0 : int64_t{plan.blocks} * kSplits, size, z, args.dparameters);
}

}  // namespace stillpoint::kernels::cuda
