// Products of blocks that lie in the cache, through registers: c[i, j] (+)= sum_r a[i, r] b[r, j].
// Included after math-inl.h, once per instruction set.
//
// b and c are rows of whole vectors; a is read one element at a time, so it may just as well be
// given transposed. Every element of c is one chain of additions over r, whatever the block's size.
#if defined(STILLPOINT_BLOCK_PRODUCT_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef STILLPOINT_BLOCK_PRODUCT_INL_H
#undef STILLPOINT_BLOCK_PRODUCT_INL_H
#else
#define STILLPOINT_BLOCK_PRODUCT_INL_H
#endif

#include <hwy/highway.h>

#include <cstdint>
#include <type_traits>

#include "kernels/common/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace stillpoint::kernels::HWY_NAMESPACE {

// A tile is 6 rows by 4 vectors of columns where there are 32 registers, by 2 where there are 16:
// 24 or 12 sums that depend on nothing keep two multiply-add units of 4 cycles busy, and one read
// feeds 2.4 or 1.5 multiply-adds. gemm/tile-inl.h, which also takes columns that fill no vector and
// rows of any number, is 8 by 2: on blocks of 48 x 128 x 64 in the first-level cache 192 GFLOP/s
// against 204 (one thread of a Xeon with AVX-512, 2026-11-25).
constexpr int kBlockTileRows = 6;
#if HWY_TARGET <= HWY_AVX3
constexpr int kBlockTileVectors = 4;
#else
constexpr int kBlockTileVectors = 2;
#endif

struct BlockMatrix {  // element (i, r) of the left operand is first[i row + r column]
  const float* first;
  int64_t row, column;
};

enum class Into : uint8_t { overwrite, add };

template <Into kInto, int kVectors>
HWY_INLINE void block_tile(const float* HWY_RESTRICT a, int64_t a_row, int64_t a_column,
                           const float* HWY_RESTRICT b, int64_t b_row, float* HWY_RESTRICT c,
                           int64_t c_row, int64_t depth) {
  const D d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  V sum[kBlockTileRows][kVectors];
#pragma GCC unroll 6
  for (int i = 0; i < kBlockTileRows; ++i)
#pragma GCC unroll 4
    for (int k = 0; k < kVectors; ++k)
      sum[i][k] = kInto == Into::add ? hn::LoadU(d, c + i * c_row + k * lanes) : hn::Zero(d);
  for (int64_t r = 0; r < depth; ++r, a += a_column, b += b_row) {
    V bk[kVectors];
#pragma GCC unroll 4
    for (int k = 0; k < kVectors; ++k) bk[k] = hn::LoadU(d, b + k * lanes);
#pragma GCC unroll 6
    for (int i = 0; i < kBlockTileRows; ++i) {
      const V ai = hn::Set(d, a[i * a_row]);
#pragma GCC unroll 4
      for (int k = 0; k < kVectors; ++k) sum[i][k] = hn::MulAdd(ai, bk[k], sum[i][k]);
    }
  }
#pragma GCC unroll 6
  for (int i = 0; i < kBlockTileRows; ++i)
#pragma GCC unroll 4
    for (int k = 0; k < kVectors; ++k) hn::StoreU(sum[i][k], d, c + i * c_row + k * lanes);
}

// c [rows, columns] (+)= a [rows, depth] b [depth, columns]: rows a multiple of kBlockTileRows,
// columns of the vectors' lanes.
template <Into kInto>
void block_product(const BlockMatrix& a, const float* b, int64_t b_row, float* c, int64_t c_row,
                   int64_t rows, int64_t columns, int64_t depth) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(D()));
  int64_t j = 0;
  const auto down = [&](auto vectors) {
    for (int64_t i = 0; i < rows; i += kBlockTileRows)
      block_tile<kInto, vectors.value>(a.first + i * a.row, a.row, a.column, b + j, b_row,
                                       c + i * c_row + j, c_row, depth);
    j += vectors.value * lanes;
  };
  while (j + kBlockTileVectors * lanes <= columns)
    down(std::integral_constant<int, kBlockTileVectors>());
  if (kBlockTileVectors > 2 && j + 2 * lanes <= columns) down(std::integral_constant<int, 2>());
  while (j < columns) down(std::integral_constant<int, 1>());
}

}  // namespace stillpoint::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // STILLPOINT_BLOCK_PRODUCT_INL_H
