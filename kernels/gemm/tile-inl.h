// Products of small matrices held in registers: what kernels are built from that run many products
// of a few dozen rows and columns on data already in cache, where calling the library would cost as
// much as the product. Included after <hwy/highway.h>, once per instruction set.
//
// A tile of rows by vectors of columns stays in registers while k runs; a row's values of `a` are
// broadcast, a row of `b` is read as vectors. With 32 registers it has 6 rows by 4 vectors, 8 or 9
// by 3 or 8 by 2, with 16 2 by 4, 4 by 3 or 4 by 2: of 32, two to three times the sums that hide
// the latency of two multiply-add units, and at most 10 loads for 16 multiply-adds. On x86 before
// AVX2 it has 2 rows, without vectors 1: every tile is compiled for every product, and these
// soonest. Columns are the outer loop: those of `b` that a tile reads stay in the first-level cache
// while rows pass.
//
// Every element is one chain of fused multiply-adds in the order of k: the same bits however the
// rows are cut.
#if defined(STILLPOINT_TILE_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef STILLPOINT_TILE_INL_H
#undef STILLPOINT_TILE_INL_H
#else
#define STILLPOINT_TILE_INL_H
#endif

#include "kernels/common/math-inl.h"
#include "kernels/gemm/operands.h"

HWY_BEFORE_NAMESPACE();
namespace stillpoint::kernels::HWY_NAMESPACE {

// sum over l < k of a[i * a_row + l * a_step] * b[l * b_row + j]: `a` may lie transposed, `b` not.
struct TileTerm {
  const float* a;
  int64_t a_row, a_step;
  const float* b;
  int64_t b_row;
  int64_t k;
};

#if HWY_TARGET <= HWY_AVX3
inline constexpr int kTileRows = 8, kWideTileRows = 6;
#elif HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_EMU128
inline constexpr int kTileRows = 1, kWideTileRows = 1;
#elif HWY_ARCH_X86 && HWY_TARGET > HWY_AVX2
inline constexpr int kTileRows = 2, kWideTileRows = 2;
#else
inline constexpr int kTileRows = 4, kWideTileRows = 2;
#endif

template <int kRows, int kVectors, class Io>
HWY_INLINE void add_term(Io io, const TileTerm& term, int64_t i, int64_t j,
                         V (&sum)[kRows * kVectors]) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(D()));
  const float* a = term.a + i * term.a_row;
  const float* b = term.b + j;
#pragma GCC unroll 4  // a sixth of a step of SymbolNet with AVX2, 1 % with AVX-512
  for (int64_t l = 0; l < term.k; ++l, a += term.a_step, b += term.b_row) {
    V row[kVectors];
    for (int v = 0; v < kVectors; ++v) row[v] = io.load(b + v * lanes);
    for (int r = 0; r < kRows; ++r) {
      const V value = hn::Set(D(), a[r * term.a_row]);
      for (int v = 0; v < kVectors; ++v)
        sum[r * kVectors + v] = hn::MulAdd(value, row[v], sum[r * kVectors + v]);
    }
  }
}

template <int kRows, int kVectors, class Io, class Start, class Finish, class... Terms>
HWY_INLINE void tile(Io io, int64_t i, int64_t j, const Start& start, const Finish& finish,
                     const Terms&... terms) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(D()));
  V sum[kRows * kVectors];
  for (int r = 0; r < kRows; ++r)
    for (int v = 0; v < kVectors; ++v) {
      const V from = start(io, i + r, j + v * lanes);  // g++ 12 fails on the call's result in sum[]
      sum[r * kVectors + v] = from;
    }
  (add_term<kRows, kVectors>(io, terms, i, j, sum), ...);
  for (int r = 0; r < kRows; ++r)
    for (int v = 0; v < kVectors; ++v) finish(io, sum[r * kVectors + v], i + r, j + v * lanes);
}

// The next smaller tile, for the rows left over: 9 or 8, then 3, then 1; 6 or 4, then 2, then 1.
// Each is compiled for every product.
constexpr int fewer_rows(int rows) { return (rows + 2) / 3; }

// Columns [j, j + kVectors vectors) of rows [i, m).
template <int kRows, int kVectors, class Io, class Start, class Finish, class... Terms>
HWY_INLINE void tile_panel(Io io, int64_t i, int64_t m, int64_t j, const Start& start,
                           const Finish& finish, const Terms&... terms) {
  for (; i + kRows <= m; i += kRows) tile<kRows, kVectors>(io, i, j, start, finish, terms...);
  if constexpr (kRows > 1)
    tile_panel<fewer_rows(kRows), kVectors>(io, i, m, j, start, finish, terms...);
}

// For every row i < m and every vector of columns at j < n: finish(io, sum, i, j), where the sum
// starts as start(io, i, j) and the terms are added to it in their order.
template <int kRows = kTileRows, class Start, class Finish, class... Terms>
HWY_INLINE void tile_product(int64_t m, int64_t n, const Start& start, const Finish& finish,
                             const Terms&... terms) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(D()));
  int64_t j = 0;
  for (int64_t left = n / lanes; left > 0; left = (n - j) / lanes) {
    if (left == 4) {
      tile_panel<kWideTileRows, 4>(WholeVector{}, 0, m, j, start, finish, terms...);
      j += 4 * lanes;
    } else if (left == 2) {
      tile_panel<kRows, 2>(WholeVector{}, 0, m, j, start, finish, terms...);
      j += 2 * lanes;
    } else if (left >= 3) {
      tile_panel<kRows, 3>(WholeVector{}, 0, m, j, start, finish, terms...);
      j += 3 * lanes;
    } else {
      tile_panel<kRows, 1>(WholeVector{}, 0, m, j, start, finish, terms...);
      j += lanes;
    }
  }
  if (j < n) tile_panel<kRows, 1>(PartVector{n - j}, 0, m, j, start, finish, terms...);
}

// A product that starts at nothing.
struct FromZero {
  template <class Io>
  HWY_INLINE V operator()(Io, int64_t, int64_t) const {
    return hn::Zero(D());
  }
};

// A product whose rows all start at the same one, a bias.
struct FromRow {
  const float* row;
  template <class Io>
  HWY_INLINE V operator()(Io io, int64_t, int64_t j) const {
    return io.load(row + j);
  }
};

// A matrix to start from, to store into, or both: rows of `data` start `row` apart.
struct TileLoad {
  const float* data;
  int64_t row;
  template <class Io>
  HWY_INLINE V operator()(Io io, int64_t i, int64_t j) const {
    return io.load(data + i * row + j);
  }
};
struct TileStore {
  float* data;
  int64_t row;
  template <class Io>
  HWY_INLINE void operator()(Io io, V v, int64_t i, int64_t j) const {
    io.store(v, data + i * row + j);
  }
};

// The products of a fused op in float32, whose operands stay where they are. Bf16Products
// (bf16_tile-inl.h) is the other set of the same.
struct Fp32Products {
  using Weight = Fp32Weight;
  using Gradient = Fp32Gradient;
  struct Rows {
    const float* data;
    int64_t n, rows;
  };

  // As tile_product; each term is rows of x times a weight. A function, so that an op's products of
  // the same kind are compiled once.
  template <class Start, class Finish, class... Terms>
  static HWY_NOINLINE void product(int64_t m, int64_t n, Start start, Finish finish,
                                   Terms... terms) {
    tile_product(m, n, start, finish,
                 TileTerm{.a = terms.x,
                          .a_row = terms.row,
                          .a_step = 1,
                          .b = terms.weight.data,
                          .b_row = terms.weight.row,
                          .k = terms.weight.k}...);
  }

  // Rows of n as the left (transposed) and right factor of gradients of weights.
  HWY_INLINE Rows left(const float* x, int64_t n, int64_t rows, uint16_t*) const {
    return {x, n, rows};
  }
  HWY_INLINE Rows right(const float* x, int64_t n, int64_t rows, uint16_t*) const {
    return {x, n, rows};
  }
  // dw [out, in] += dy^T x.
  static HWY_NOINLINE void add_gradient(Gradient dw, Rows dy, Rows x) {
    tile_product(
        dy.n, x.n, TileLoad{dw.data, dw.row}, TileStore{dw.data, dw.row},
        TileTerm{.a = dy.data, .a_row = 1, .a_step = dy.n, .b = x.data, .b_row = x.n, .k = x.rows});
  }
};

}  // namespace stillpoint::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // STILLPOINT_TILE_INL_H
