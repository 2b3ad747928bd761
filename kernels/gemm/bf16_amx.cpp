// The products of bf16.h with AMX tiles, which Google Highway does not know.
#include "kernels/gemm/bf16.h"

#if defined(__x86_64__) && defined(__linux__)

// g++ 12 warns of the undefined operand in its own intrinsics.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif

#include <cpuid.h>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>

// The functions that need the instructions, and no others of this file, are compiled for them.
#define STILLPOINT_AMX \
  __attribute__((target("avx512f,avx512bw,avx512vl,avx512bf16,amx-tile,amx-bf16")))

namespace stillpoint::kernels {
namespace {

// ---- packing -----------------------------------------------------------------------------------

STILLPOINT_AMX inline __mmask16 first(int64_t n) {
  return static_cast<__mmask16>((1u << std::clamp<int64_t>(n, 0, 16)) - 1);
}

STILLPOINT_AMX inline __m512i rounded(__m512 low, __m512 high) {
  return reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(high, low));
}

// Masked lanes are not read, wherever they lie.
// Row r < 16 of 32 columns.
STILLPOINT_AMX inline __m512i load_row(const float* x, __mmask16 low, __mmask16 high) {
  return rounded(_mm512_maskz_loadu_ps(low, x), _mm512_maskz_loadu_ps(high, x + 16));
}

// 16 rows of 32 columns.
STILLPOINT_AMX inline void load_rows(const float* x, int64_t row, int64_t rows, int64_t columns,
                                     __m512i (&v)[16]) {
  const __mmask16 low = first(columns), high = first(columns - 16);
  for (int64_t r = 0; r < 16; ++r)
    v[r] = r < rows ? load_row(x + r * row, low, high) : _mm512_setzero_si512();
}

// 32 rows of 16 columns, rows 2 r and 2 r + 1 side by side.
STILLPOINT_AMX inline void load_pairs(const float* x, int64_t row, int64_t rows, int64_t columns,
                                      __m512i (&v)[16]) {
  alignas(64) static constexpr uint16_t kInterleaved[32] = {
      0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
      8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
  const __m512i order = _mm512_load_si512(kInterleaved);
  const __mmask16 mask = first(columns);
  const auto pair = [&](int64_t r, __mmask16 even, __mmask16 odd) STILLPOINT_AMX {
    const float* from = x + 2 * r * row;
    return _mm512_permutexvar_epi16(
        order, rounded(_mm512_maskz_loadu_ps(even, from), _mm512_maskz_loadu_ps(odd, from + row)));
  };
  if (rows >= 32) {
    for (int64_t r = 0; r < 16; ++r) v[r] = pair(r, mask, mask);
    return;
  }
  for (int64_t r = 0; r < 16; ++r)
    v[r] = pair(r, 2 * r < rows ? mask : __mmask16{0}, 2 * r + 1 < rows ? mask : __mmask16{0});
}

// v as a matrix of 16 by 16 pairs.
STILLPOINT_AMX inline void transpose(__m512i (&v)[16]) {
  __m512i w[16];
  for (int k = 0; k < 16; k += 2) {
    w[k] = _mm512_unpacklo_epi32(v[k], v[k + 1]);
    w[k + 1] = _mm512_unpackhi_epi32(v[k], v[k + 1]);
  }
  for (int k = 0; k < 16; k += 4)
    for (int i = 0; i < 2; ++i) {
      v[k + 2 * i] = _mm512_unpacklo_epi64(w[k + i], w[k + i + 2]);
      v[k + 2 * i + 1] = _mm512_unpackhi_epi64(w[k + i], w[k + i + 2]);
    }
  // Now lane q of v[4 g + i] has column 4 q + i of the rows 4 g to 4 g + 3.
  for (int i = 0; i < 4; ++i) {
    const __m512i a = _mm512_shuffle_i32x4(v[i], v[4 + i], 0x44);
    const __m512i b = _mm512_shuffle_i32x4(v[i], v[4 + i], 0xee);
    const __m512i c = _mm512_shuffle_i32x4(v[8 + i], v[12 + i], 0x44);
    const __m512i d = _mm512_shuffle_i32x4(v[8 + i], v[12 + i], 0xee);
    w[i] = _mm512_shuffle_i32x4(a, c, 0x88);
    w[4 + i] = _mm512_shuffle_i32x4(a, c, 0xdd);
    w[8 + i] = _mm512_shuffle_i32x4(b, d, 0x88);
    w[12 + i] = _mm512_shuffle_i32x4(b, d, 0xdd);
  }
  for (int k = 0; k < 16; ++k) v[k] = w[k];
}

STILLPOINT_AMX inline void store(const __m512i (&v)[16], uint16_t* to) {
  for (int r = 0; r < 16; ++r) _mm512_storeu_si512(to + r * kTileDepth, v[r]);
}

STILLPOINT_AMX void pack_a(const float* x, int64_t row, int64_t rows, int64_t columns,
                           uint16_t* a) {
  for (int64_t i = 0; i < rows; i += kTile)
    for (int64_t k = 0; k < columns; k += kTileDepth) {
      const __mmask16 low = first(columns - k), high = first(columns - k - 16);
      const float* from = x + i * row + k;
      for (int64_t r = i; r < i + kTile; ++r, from += row, a += kTileDepth)
        _mm512_storeu_si512(a, r < rows ? load_row(from, low, high) : _mm512_setzero_si512());
    }
}

STILLPOINT_AMX void pack_b_transposed(const float* x, int64_t row, int64_t rows, int64_t columns,
                                      uint16_t* b) {
  for (int64_t i = 0; i < rows; i += kTile)
    for (int64_t k = 0; k < columns; k += kTileDepth, b += kTileSize) {
      __m512i v[16];
      load_rows(x + i * row + k, row, rows - i, columns - k, v);
      transpose(v);
      store(v, b);
    }
}

template <bool kTransposed>
STILLPOINT_AMX void pack_pairs(const float* x, int64_t row, int64_t rows, int64_t columns,
                               uint16_t* to) {
  for (int64_t j = 0; j < columns; j += kTile)
    for (int64_t k = 0; k < rows; k += kTileDepth, to += kTileSize) {
      __m512i v[16];
      load_pairs(x + k * row + j, row, rows - k, columns - j, v);
      if (kTransposed) transpose(v);
      store(v, to);
    }
}

// ---- products ----------------------------------------------------------------------------------

// How _tile_loadconfig reads the shapes of the eight tiles: all 16 rows of 64 bytes.
struct alignas(64) TileShapes {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

STILLPOINT_AMX void begin() {
  static constexpr TileShapes kShapes;
  _tile_loadconfig(&kShapes);
}
STILLPOINT_AMX void end() { _tile_release(); }

// kM by kN tiles of sums in tiles 0 to 3, two of A in 4 and 5, two of B in 6 and 7.
template <int kM, int kN>
STILLPOINT_AMX inline void product_of_tiles(SumsFrom from, const Bf16Sums& sums, int64_t i,
                                            int64_t j, const Bf16Term* terms, int count) {
  float* c = sums.data + i * sums.down + j * sums.right;
  const int64_t row = sums.row * 4;
  if (from == SumsFrom::zero) {
    _tile_zero(0);
    if (kN > 1) _tile_zero(1);
    if (kM > 1) _tile_zero(2);
    if (kM > 1 && kN > 1) _tile_zero(3);
  } else {
    _tile_loadd(0, c, row);
    if (kN > 1) _tile_loadd(1, c + sums.right, row);
    if (kM > 1) _tile_loadd(2, c + sums.down, row);
    if (kM > 1 && kN > 1) _tile_loadd(3, c + sums.down + sums.right, row);
  }
  for (int t = 0; t < count; ++t) {
    const int64_t next = terms[t].deep * kTileSize;
    const uint16_t *a = terms[t].a + i * next, *b = terms[t].b + j * next;
    for (int64_t d = 0; d < terms[t].deep; ++d, a += kTileSize, b += kTileSize) {
      _tile_loadd(6, b, 64);
      _tile_loadd(4, a, 64);
      _tile_dpbf16ps(0, 4, 6);
      if (kM > 1) {
        _tile_loadd(5, a + next, 64);
        _tile_dpbf16ps(2, 5, 6);
      }
      if (kN > 1) {
        _tile_loadd(7, b + next, 64);
        _tile_dpbf16ps(1, 4, 7);
      }
      if (kM > 1 && kN > 1) _tile_dpbf16ps(3, 5, 7);
    }
  }
  _tile_stored(0, c, row);
  if (kN > 1) _tile_stored(1, c + sums.right, row);
  if (kM > 1) _tile_stored(2, c + sums.down, row);
  if (kM > 1 && kN > 1) _tile_stored(3, c + sums.down + sums.right, row);
}

STILLPOINT_AMX void product(SumsFrom from, const Bf16Sums& sums, int64_t m, int64_t n,
                            const Bf16Term* terms, int count) {
  // The intrinsics of g++ 12 do not say that they read and write memory.
  asm volatile("" ::: "memory");
  for (int64_t j = 0; j < n; j += 2)
    for (int64_t i = 0; i < m; i += 2) {
      if (i + 1 < m) {
        if (j + 1 < n)
          product_of_tiles<2, 2>(from, sums, i, j, terms, count);
        else
          product_of_tiles<2, 1>(from, sums, i, j, terms, count);
      } else {
        if (j + 1 < n)
          product_of_tiles<1, 2>(from, sums, i, j, terms, count);
        else
          product_of_tiles<1, 1>(from, sums, i, j, terms, count);
      }
    }
  asm volatile("" ::: "memory");
}

constexpr Bf16Kernel kAmx = {.begin = begin,
                             .end = end,
                             .pack_a = pack_a,
                             .pack_b = pack_pairs<false>,
                             .pack_a_transposed = pack_pairs<true>,
                             .pack_b_transposed = pack_b_transposed,
                             .product = product};

// The processor has the instructions and Linux lets this process use the tiles' registers
// (Documentation/arch/x86/xstate.rst).
bool present() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
  constexpr unsigned kAmxBf16 = 1u << 22, kAmxTile = 1u << 24;
  constexpr unsigned kAvx512f = 1u << 16, kAvx512bw = 1u << 30, kAvx512vl = 1u << 31;
  if ((d & kAmxBf16) == 0 || (d & kAmxTile) == 0) return false;
  if ((b & kAvx512f) == 0 || (b & kAvx512bw) == 0 || (b & kAvx512vl) == 0) return false;
  if (!__get_cpuid_count(7, 1, &a, &b, &c, &d)) return false;
  constexpr unsigned kAvx512Bf16 = 1u << 5;
  if ((a & kAvx512Bf16) == 0) return false;
  constexpr long kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XTILEDATA
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

}  // namespace

const Bf16Kernel* bf16_amx() {
  static const bool here = present();
  return here ? &kAmx : nullptr;
}

}  // namespace stillpoint::kernels

#else

const stillpoint::kernels::Bf16Kernel* stillpoint::kernels::bf16_amx() { return nullptr; }

#endif
