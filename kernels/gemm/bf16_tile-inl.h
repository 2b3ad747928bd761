// The products of a fused op in bfloat16, as Fp32Products (tile-inl.h) has them in float32. Rows
// are rounded and packed a strip at a time; sums of a strip go through memory of the first-level
// cache to what finishes them. Included after <hwy/highway.h>, once per instruction set.
#if defined(STILLPOINT_BF16_TILE_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef STILLPOINT_BF16_TILE_INL_H
#undef STILLPOINT_BF16_TILE_INL_H
#else
#define STILLPOINT_BF16_TILE_INL_H
#endif

#include <algorithm>

#include "kernels/common/math-inl.h"
#include "kernels/gemm/operands.h"

HWY_BEFORE_NAMESPACE();
namespace stillpoint::kernels::HWY_NAMESPACE {

struct Bf16Products {
  using Weight = Bf16Weight;
  using Gradient = Bf16Gradient;
  struct Rows {
    const uint16_t* data;
    int64_t n, rows;
  };

  const Bf16Kernel& kernel;
  Bf16Strip strip;

  template <class Start, class Finish, class... Terms>
  HWY_INLINE void product(int64_t m, int64_t n, const Start& start, const Finish& finish,
                          const Terms&... terms) const {
    const int64_t width = tiles(n) * kTile;
    const Bf16Sums sums{.data = strip.sums, .down = kTile * width, .right = kTile, .row = width};
    for (int64_t first = 0; first < m; first += kStrip) {
      const int64_t rows = std::min(kStrip, m - first);
      uint16_t* to = strip.rows;
      const Bf16Term packed[] = {pack(terms, first, rows, to)...};
      kernel.product(SumsFrom::zero, sums, tiles(rows), tiles(n), packed, sizeof...(Terms));
      for (int64_t i = 0; i < rows; ++i) {
        const float* row = strip.sums + i * width;
        for_vectors(n, [&](auto io, int64_t j) HWY_ATTR {
          const V from = start(io, first + i, j);
          finish(io, hn::Add(from, io.load(row + j)), first + i, j);
        });
      }
    }
  }

  HWY_INLINE Rows left(const float* x, int64_t n, int64_t rows, uint16_t* to) const {
    kernel.pack_a_transposed(x, n, rows, n, to);
    return {to, n, rows};
  }
  HWY_INLINE Rows right(const float* x, int64_t n, int64_t rows, uint16_t* to) const {
    kernel.pack_b(x, n, rows, n, to);
    return {to, n, rows};
  }
  HWY_INLINE void add_gradient(const Gradient& dw, const Rows& dy, const Rows& x) const {
    const int64_t across = tiles(x.n);
    const Bf16Term term{.a = dy.data, .b = x.data, .deep = deep_tiles(x.rows)};
    const Bf16Sums sums{
        .data = dw.data, .down = across * kTile * kTile, .right = kTile * kTile, .row = kTile};
    kernel.product(SumsFrom::sums, sums, tiles(dy.n), across, &term, 1);
  }

 private:
  HWY_INLINE Bf16Term pack(const WeightTerm<Weight>& term, int64_t first, int64_t rows,
                           uint16_t*& to) const {
    uint16_t* a = to;
    kernel.pack_a(term.x + first * term.row, term.row, rows, term.weight.k, a);
    to += packed_size(kStrip, term.weight.k);
    return {.a = a, .b = term.weight.data, .deep = deep_tiles(term.weight.k)};
  }
};

}  // namespace stillpoint::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // STILLPOINT_BF16_TILE_INL_H
