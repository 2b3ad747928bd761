// Products of bfloat16 matrices with float32 sums, in tiles: the operation of the AMX-BF16
// instruction tdpbf16ps (Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2)
// and a portable form of it.
//
// An operand of A B, A [m, k] and B [k, n], is packed from float32 into tiles of 16 by 32 numbers,
// 1 KB each, padded with zeros. Tile (t, l) of A holds rows 16 t to 16 t + 15 and columns 32 l to
// 32 l + 31, row by row. Tile (t, l) of B holds columns 16 t to 16 t + 15 and rows 32 l to 32 l +
// 31: its row r has the rows 2 r and 2 r + 1 of B side by side, column by column. Tiles (t, 0), (t,
// 1), ... follow each other.
//
// Rounding to bfloat16 is to nearest, ties to even. The sum of a tile is, in float32,
//   even = sum of a[2 r] b[2 r]     odd = sum of a[2 r + 1] b[2 r + 1]     c = c + (even + odd)
// for r = 0 to 15 in order. A product of two bfloat16 numbers is exact in float32. So both forms
// give the same bits as long as nothing is smaller than the smallest normal number, 1.2e-38: AMX
// takes such numbers for 0, in operands and in sums. NaN and infinities spread as in float32.
#pragma once

#include <cstdint>

namespace stillpoint::kernels {

constexpr int64_t kTile = 16;                      // rows of A, columns of B
constexpr int64_t kTileDepth = 32;                 // columns of A, rows of B
constexpr int64_t kTileSize = kTile * kTileDepth;  // numbers of an operand's tile

constexpr int64_t tiles(int64_t n) { return (n + kTile - 1) / kTile; }
constexpr int64_t deep_tiles(int64_t k) { return (k + kTileDepth - 1) / kTileDepth; }
// Numbers of a packed operand with n rows of A or columns of B.
constexpr int64_t packed_size(int64_t n, int64_t k) { return tiles(n) * deep_tiles(k) * kTileSize; }

// A and B, packed; both `deep` tiles deep.
struct Bf16Term {
  const uint16_t* a;
  const uint16_t* b;
  int64_t deep;
};

// Where sums lie: tile (i, j), 16 by 16, at data + i down + j right, its rows `row` apart.
struct Bf16Sums {
  float* data;
  int64_t down, right, row;
};

enum class SumsFrom : uint8_t { zero, sums };  // what a product is added to

struct Bf16Kernel {
  // Around calls of `product` on a thread.
  void (*begin)();
  void (*end)();
  // Pack a matrix x, whose rows start `row` apart, or its transpose, as A or as B of a product.
  void (*pack_a)(const float* x, int64_t row, int64_t rows, int64_t columns, uint16_t* a);
  void (*pack_b)(const float* x, int64_t row, int64_t rows, int64_t columns, uint16_t* b);
  void (*pack_a_transposed)(const float* x, int64_t row, int64_t rows, int64_t columns,
                            uint16_t* a);
  void (*pack_b_transposed)(const float* x, int64_t row, int64_t rows, int64_t columns,
                            uint16_t* b);
  // m by n tiles of sums, to which the terms are added in their order.
  void (*product)(SumsFrom from, const Bf16Sums& sums, int64_t m, int64_t n, const Bf16Term* terms,
                  int count);
};

const Bf16Kernel& bf16_portable();
// Null where processor, system or compiler have no AMX-BF16.
const Bf16Kernel* bf16_amx();
// AMX where it is present and STILLPOINT_ISA or force_isa() do not restrict instruction sets to
// less than AVX-512.
const Bf16Kernel& bf16_kernel();

}  // namespace stillpoint::kernels
