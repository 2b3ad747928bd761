// Products of bfloat16 tiles: each form against double, and both against each other.
#include "kernels/gemm/bf16.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "engine/random.h"
#include "kernels/common/simd.h"

namespace stillpoint::test {
namespace {

using namespace kernels;

struct Form {
  std::string name;
  const Bf16Kernel* kernel;
};
std::vector<Form> forms() {
  std::vector<Form> all = {{"portable", &bf16_portable()}};
  if (bf16_amx() != nullptr) all.push_back({"amx", bf16_amx()});
  return all;
}

double value(uint16_t bits) { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }

// To nearest, ties to even, by doubles.
double nearest(float x) {
  if (x == 0 || !std::isfinite(x)) return x;
  const double unit = std::ldexp(1.0, std::ilogb(x) - 7);
  return std::nearbyint(x / unit) * unit;
}

std::vector<float> numbers(int64_t n, uint64_t seed) {
  Philox random(seed, 3);
  std::vector<float> x;
  for (int64_t k = 0; k < n; ++k) x.push_back(static_cast<float>(2 * random.uniform() - 1));
  return x;
}

struct Sizes {
  int64_t m, k, n;
};
const Sizes kSizes[] = {{1, 1, 1},    {7, 8, 9},    {16, 32, 16}, {17, 33, 15}, {31, 31, 33},
                        {32, 64, 32}, {64, 48, 96}, {50, 65, 47}, {15, 96, 80}};

// A [m, k] and B [k, n], packed from themselves or from their transposes, which lie in rows that
// are 3 longer.
struct Packed {
  std::vector<float> a, b;
  std::vector<uint16_t> tiles_a, tiles_b;

  Packed(const Bf16Kernel& kernel, Sizes s, bool transposed)
      : a(numbers(s.m * s.k, 1)),
        b(numbers(s.k * s.n, 2)),
        tiles_a(static_cast<size_t>(packed_size(s.m, s.k)), 7),
        tiles_b(static_cast<size_t>(packed_size(s.n, s.k)), 7) {
    const float nan = std::numeric_limits<float>::quiet_NaN();  // in what must not be read
    const int64_t row_a = (transposed ? s.m : s.k) + 3, row_b = (transposed ? s.k : s.n) + 3;
    std::vector<float> wide_a(static_cast<size_t>((transposed ? s.k : s.m) * row_a), nan);
    std::vector<float> wide_b(static_cast<size_t>((transposed ? s.n : s.k) * row_b), nan);
    for (int64_t i = 0; i < s.m; ++i)
      for (int64_t l = 0; l < s.k; ++l)
        wide_a[transposed ? l * row_a + i : i * row_a + l] = a[i * s.k + l];
    for (int64_t l = 0; l < s.k; ++l)
      for (int64_t j = 0; j < s.n; ++j)
        wide_b[transposed ? j * row_b + l : l * row_b + j] = b[l * s.n + j];
    if (transposed) {
      kernel.pack_a_transposed(wide_a.data(), row_a, s.k, s.m, tiles_a.data());
      kernel.pack_b_transposed(wide_b.data(), row_b, s.n, s.k, tiles_b.data());
    } else {
      kernel.pack_a(wide_a.data(), row_a, s.m, s.k, tiles_a.data());
      kernel.pack_b(wide_b.data(), row_b, s.k, s.n, tiles_b.data());
    }
  }
};

TEST(Bf16, PacksWhatTheContractSays) {
  for (const Form& form : forms())
    for (const Sizes s : kSizes)
      for (const bool transposed : {false, true}) {
        const Packed p(*form.kernel, s, transposed);
        const auto deep = deep_tiles(s.k) * kTileDepth;
        for (int64_t l = 0; l < deep; ++l) {
          const int64_t d = l / kTileDepth, in_tile = l % kTileDepth;
          for (int64_t i = 0; i < tiles(s.m) * kTile; ++i) {
            const int64_t tile = (i / kTile * deep_tiles(s.k) + d) * kTileSize;
            ASSERT_EQ(value(p.tiles_a[tile + i % kTile * kTileDepth + in_tile]),
                      i < s.m && l < s.k ? nearest(p.a[i * s.k + l]) : 0)
                << form.name << " A " << i << " " << l << " transposed " << transposed;
          }
          for (int64_t j = 0; j < tiles(s.n) * kTile; ++j) {
            const int64_t tile = (j / kTile * deep_tiles(s.k) + d) * kTileSize;
            ASSERT_EQ(value(p.tiles_b[tile + in_tile / 2 * kTileDepth + j % kTile * 2 + l % 2]),
                      j < s.n && l < s.k ? nearest(p.b[l * s.n + j]) : 0)
                << form.name << " B " << l << " " << j << " transposed " << transposed;
          }
        }
      }
}

TEST(Bf16, RoundsToNearestEven) {
  const float inf = std::numeric_limits<float>::infinity();
  const std::vector<std::pair<float, uint16_t>> cases = {
      {1.f, 0x3f80},
      {1.f + 0x1p-8f, 0x3f80},            // halfway, to the even one below
      {1.f + 0x1p-7f + 0x1p-8f, 0x3f82},  // halfway, to the even one above
      {1.f + 0x1p-8f + 0x1p-23f, 0x3f81},
      {-1.f - 0x1p-8f, 0xbf80},
      {std::numeric_limits<float>::max(), 0x7f80},
      {inf, 0x7f80},
      {-inf, 0xff80},
      {0.f, 0},
      {-0.f, 0x8000},
      {std::numeric_limits<float>::min(), 0x0080},
      {0x1p-127f, 0},  // below the smallest normal number
      {-0x1p-140f, 0x8000}};
  for (const Form& form : forms()) {
    for (const auto& [x, wanted] : cases) {
      std::vector<uint16_t> packed(kTileSize);
      form.kernel->pack_a(&x, 1, 1, 1, packed.data());
      EXPECT_EQ(packed[0], wanted) << form.name << " " << x;
    }
    for (const uint32_t bits : {0x7f800001u, 0x7fc00000u, 0xff80ffffu, 0x7fffffffu}) {
      const auto nan = std::bit_cast<float>(bits);
      std::vector<uint16_t> packed(kTileSize);
      form.kernel->pack_a(&nan, 1, 1, 1, packed.data());
      EXPECT_TRUE(std::isnan(value(packed[0]))) << form.name << " " << bits;
    }
  }
}

std::vector<float> product(const Bf16Kernel& kernel, Sizes s, SumsFrom from, const Packed& p) {
  const int64_t width = tiles(s.n) * kTile;
  std::vector<float> sums(static_cast<size_t>(tiles(s.m) * kTile * width), 0.25f);
  const Bf16Term term{p.tiles_a.data(), p.tiles_b.data(), deep_tiles(s.k)};
  const Bf16Term terms[] = {term, term};
  kernel.begin();
  kernel.product(from, {sums.data(), kTile * width, kTile, width}, tiles(s.m), tiles(s.n), terms,
                 2);
  kernel.end();
  return sums;
}

TEST(Bf16, SumsProductsOfRoundedNumbers) {
  for (const Form& form : forms())
    for (const Sizes s : kSizes)
      for (const SumsFrom from : {SumsFrom::zero, SumsFrom::sums}) {
        const Packed p(*form.kernel, s, false);
        const auto got = product(*form.kernel, s, from, p);
        for (int64_t i = 0; i < s.m; ++i)
          for (int64_t j = 0; j < s.n; ++j) {
            double sum = from == SumsFrom::sums ? 0.25 : 0, size = sum;
            for (int64_t l = 0; l < s.k; ++l) {
              const double x = 2 * nearest(p.a[i * s.k + l]) * nearest(p.b[l * s.n + j]);
              sum += x;
              size += std::abs(x);
            }
            // Each of the additions on the way rounds by half a unit of at most `size`.
            const double bound = 0x1p-24 * static_cast<double>(2 * s.k + 4) * size;
            ASSERT_NEAR(got[i * tiles(s.n) * kTile + j], sum, bound)
                << form.name << " " << s.m << " " << s.k << " " << s.n << " at " << i << " " << j;
          }
      }
}

TEST(Bf16, AmxAndPortableFormAgreeBitForBit) {
  if (bf16_amx() == nullptr) GTEST_SKIP() << "no AMX-BF16";
  for (const Sizes s : kSizes)
    for (const bool transposed : {false, true}) {
      const Packed amx(*bf16_amx(), s, transposed), portable(bf16_portable(), s, transposed);
      ASSERT_EQ(amx.tiles_a, portable.tiles_a);
      ASSERT_EQ(amx.tiles_b, portable.tiles_b);
      for (const SumsFrom from : {SumsFrom::zero, SumsFrom::sums})
        ASSERT_EQ(product(*bf16_amx(), s, from, amx), product(bf16_portable(), s, from, portable))
            << s.m << " " << s.k << " " << s.n;
    }
}

TEST(Bf16, NaNStaysInItsRow) {
  for (const Form& form : forms()) {
    const Sizes s{20, 40, 20};
    Packed p(*form.kernel, s, false);
    p.a[3 * s.k + 35] = std::numeric_limits<float>::quiet_NaN();
    form.kernel->pack_a(p.a.data(), s.k, s.m, s.k, p.tiles_a.data());
    const auto got = product(*form.kernel, s, SumsFrom::zero, p);
    for (int64_t i = 0; i < s.m; ++i)
      for (int64_t j = 0; j < s.n; ++j)
        EXPECT_EQ(std::isnan(got[i * tiles(s.n) * kTile + j]), i == 3) << form.name << i << j;
  }
}

TEST(Bf16, AmxIsUsedUnlessKeptFromIt) {
  const bool best = available_isas().front() == "AVX3" && bf16_amx() != nullptr;
  EXPECT_EQ(&bf16_kernel() == bf16_amx(), best);
  ASSERT_TRUE(force_isa(available_isas().back()));
  EXPECT_TRUE(&bf16_kernel() == &bf16_portable() || available_isas().size() == 1);
  force_isa("");
}

}  // namespace
}  // namespace stillpoint::test
