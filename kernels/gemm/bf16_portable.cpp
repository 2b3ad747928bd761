#include <bit>
#include <cmath>
#include <limits>

#include "kernels/common/simd.h"
#include "kernels/gemm/bf16.h"

namespace stillpoint::kernels {
namespace {

uint16_t rounded(float x) {
  const auto bits = std::bit_cast<uint32_t>(x);
  const auto high = static_cast<uint16_t>(bits >> 16);
  if (std::isnan(x)) return high | 0x40;  // quiet, whatever the low half held
  if (std::abs(x) < std::numeric_limits<float>::min()) return high & 0x8000;
  return static_cast<uint16_t>((bits + 0x7fff + (high & 1)) >> 16);
}

float widened(uint16_t x) { return std::bit_cast<float>(static_cast<uint32_t>(x) << 16); }

// Packs the matrix [n, k] with elements at(i, l), which is A or the transpose of B.
template <class At>
void pack_row_by_row(int64_t n, int64_t k, uint16_t* to, const At& at) {
  for (int64_t t = 0; t < tiles(n); ++t)
    for (int64_t d = 0; d < deep_tiles(k); ++d)
      for (int64_t i = t * kTile; i < (t + 1) * kTile; ++i)
        for (int64_t l = d * kTileDepth; l < (d + 1) * kTileDepth; ++l)
          *to++ = i < n && l < k ? rounded(at(i, l)) : uint16_t{0};
}
template <class At>
void pack_in_pairs(int64_t n, int64_t k, uint16_t* to, const At& at) {
  for (int64_t t = 0; t < tiles(n); ++t)
    for (int64_t d = 0; d < deep_tiles(k); ++d)
      for (int64_t l = d * kTileDepth; l < (d + 1) * kTileDepth; l += 2)
        for (int64_t i = t * kTile; i < (t + 1) * kTile; ++i)
          for (const int64_t row : {l, l + 1})
            *to++ = i < n && row < k ? rounded(at(i, row)) : uint16_t{0};
}

void pack_a(const float* x, int64_t row, int64_t rows, int64_t columns, uint16_t* a) {
  pack_row_by_row(rows, columns, a, [&](int64_t i, int64_t l) { return x[i * row + l]; });
}
void pack_b(const float* x, int64_t row, int64_t rows, int64_t columns, uint16_t* b) {
  pack_in_pairs(columns, rows, b, [&](int64_t i, int64_t l) { return x[l * row + i]; });
}
void pack_a_transposed(const float* x, int64_t row, int64_t rows, int64_t columns, uint16_t* a) {
  pack_row_by_row(columns, rows, a, [&](int64_t i, int64_t l) { return x[l * row + i]; });
}
void pack_b_transposed(const float* x, int64_t row, int64_t rows, int64_t columns, uint16_t* b) {
  pack_in_pairs(rows, columns, b, [&](int64_t i, int64_t l) { return x[i * row + l]; });
}

void add_tile(float* sums, int64_t row, const uint16_t* a, const uint16_t* b) {
  for (int64_t i = 0; i < kTile; ++i) {
    float even[kTile] = {}, odd[kTile] = {};
    for (int64_t l = 0; l < kTileDepth; l += 2) {
      const float a0 = widened(a[i * kTileDepth + l]), a1 = widened(a[i * kTileDepth + l + 1]);
      const uint16_t* pairs = b + l * kTile;
      for (int64_t j = 0; j < kTile; ++j) {
        even[j] += a0 * widened(pairs[2 * j]);
        odd[j] += a1 * widened(pairs[2 * j + 1]);
      }
    }
    for (int64_t j = 0; j < kTile; ++j) sums[i * row + j] += even[j] + odd[j];
  }
}

void product(SumsFrom from, const Bf16Sums& sums, int64_t m, int64_t n, const Bf16Term* terms,
             int count) {
  for (int64_t i = 0; i < m; ++i)
    for (int64_t j = 0; j < n; ++j) {
      float* c = sums.data + i * sums.down + j * sums.right;
      if (from == SumsFrom::zero)
        for (int64_t r = 0; r < kTile; ++r)
          for (int64_t k = 0; k < kTile; ++k) c[r * sums.row + k] = 0;
      for (int t = 0; t < count; ++t)
        for (int64_t d = 0; d < terms[t].deep; ++d)
          add_tile(c, sums.row, terms[t].a + (i * terms[t].deep + d) * kTileSize,
                   terms[t].b + (j * terms[t].deep + d) * kTileSize);
    }
}

void nothing() {}

constexpr Bf16Kernel kPortable = {.begin = nothing,
                                  .end = nothing,
                                  .pack_a = pack_a,
                                  .pack_b = pack_b,
                                  .pack_a_transposed = pack_a_transposed,
                                  .pack_b_transposed = pack_b_transposed,
                                  .product = product};

}  // namespace

const Bf16Kernel& bf16_portable() { return kPortable; }

const Bf16Kernel& bf16_kernel() {
  const Bf16Kernel* amx = bf16_amx();
  return amx != nullptr && active_isa() == "AVX3" ? *amx : kPortable;
}

}  // namespace stillpoint::kernels
