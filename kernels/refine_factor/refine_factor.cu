// refine_factor on CUDA: one launch for all refinements. A block, one on each multiprocessor, takes
// one board after the other through them. In a refinement its warps first take tiles of factors,
// then tiles of variables; a warp goes alone from the rows it reads to the rows it writes
// (warp_tile.cuh), and the block meets only between the two.
//
// For C = 32 and hidden = 64 all matrices are in shared memory, 64 KiB of them forward (three
// types) and 80 KiB backward, and beside them a tile of 32 x 68 floats for each of 12 warps: 166
// and 182 KiB, so that a block has a multiprocessor to itself and a lane 168 registers. A 9x9
// board's 729 variables are 23 tiles, two for a warp, its factors (162, 81, 81) 12 tiles, one for a
// warp. A lane has 8 rows of a product and 4 or 8 columns: four terms of k are 128 multiply-adds
// for 12 loads of 16 bytes, or 256 for 16. A load takes shared memory two cycles at best and a
// warp's multiply-add a quarter of one: 24 cycles beside 32, or 32 beside 64. What a board needs
// (0.3 MB forward, 0.7 MB backward) lies in the workspace and passes through the second-level
// cache, in the forward about 1.7 MB a refinement of 12.4 Mflop.
//
// Gradients of matrices are formed after a step of the backward has left both factors in memory: a
// warp takes 32 x 32 of one matrix over a third of the variables, or over the factors of a type, a
// lane 8 x 4 of it, 32 multiply-adds for 3 loads a row. Every block has sums of its own.
//
// Other sizes, and rows that do not start on 16 bytes, take the same way with sizes the compiler
// does not know: matrices are read from the workspace, and tiles are there too where not even those
// of four warps fit into shared memory.
#include "kernels/common/reduce.cuh"
#include "kernels/refine_factor/refine_factor.h"
#include "kernels/refine_factor/refine_factor_layout.cuh"
#include "kernels/refine_factor/warp_tile.cuh"

namespace stillpoint::kernels::cuda {
namespace {

// ---- what both directions do -------------------------------------------------------------------

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
