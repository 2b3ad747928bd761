// Where the numbers of refine_factor lie on CUDA: sizes padded to whole tiles, matrices packed for
// the kernels, scratch memory of a block, and how a direction is launched. For refine_factor.cu
// only.
#pragma once

#include "kernels/common/launch.h"
#include "kernels/refine_factor/refine_factor.h"
#include "kernels/refine_factor/warp_tile.cuh"

namespace stillpoint::kernels::cuda {
namespace {

// Warps of a block; with sizes that the compiler does not know a lane needs more registers.
template <bool kFits>
constexpr int kMostWarps = kFits ? 12 : 8;
// Threads that a kernel is compiled for. Before compute capability 9.0 a block has 163 KiB of
// shared memory or less, where no more than eight warps have room beside the matrices.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
template <bool kFits>
constexpr int kMostThreads = 8 * kWarpSize;
#else
template <bool kFits>
constexpr int kMostThreads = kMostWarps<kFits>* kWarpSize;
#endif
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

}  // namespace
}  // namespace stillpoint::kernels::cuda
