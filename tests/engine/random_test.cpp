#include "engine/random.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <vector>

#include "engine/error.h"

namespace stillpoint {
namespace {

// The known-answer tests of the authors' Random123 distribution (kat_vectors, philox4x32 10).
TEST(Philox, KnownAnswers) {
  const auto words = [](uint64_t key, uint64_t low, uint64_t high) {
    const kernels::PhiloxBlock b = kernels::philox4x32_10(key, low, high);
    return std::array{b.v[0], b.v[1], b.v[2], b.v[3]};
  };
  EXPECT_THAT(words(0, 0, 0),
              testing::ElementsAre(0x6627e8d5u, 0xe169c58du, 0xbc57ac4cu, 0x9b00dbd8u));
  EXPECT_THAT(words(~0ull, ~0ull, ~0ull),
              testing::ElementsAre(0x408f276du, 0x41c83b0eu, 0xa20bc7c6u, 0x6d5451fdu));
  EXPECT_THAT(words(0x299f31d0a4093822ull, 0x85a308d3243f6a88ull, 0x0370734413198a2eull),
              testing::ElementsAre(0xd16cfe09u, 0x94fdccebu, 0x5001e420u, 0x24126ea1u));
}

TEST(Philox, StateRoundTripGoesOnWhereItWas) {
  Philox random(11, 3);
  for (int used = 0; used < 9; ++used) {
    Philox copy = Philox::from_state(random.state());
    Philox original = random;
    for (int k = 0; k < 10; ++k) ASSERT_EQ(copy.bits(), original.bits()) << used;
    (void)random.bits();
  }
}

TEST(Philox, RefusesForgedStates) {
  EXPECT_THROW((void)Philox::from_state({.seed = 1, .stream = 0, .counter = 1, .used = 5}),
               FormatError);
  EXPECT_THROW((void)Philox::from_state({.seed = 1, .stream = 0, .counter = 1, .used = ~0u}),
               FormatError);
}

TEST(Philox, ReservedCountersAreNotDrawnAgain) {
  Philox random(5);
  (void)random.bits();
  const uint64_t first = random.reserve(3);
  const uint32_t next = random.bits();
  EXPECT_EQ(next, kernels::philox4x32_10(5, first + 3, 0).v[0]);
}

TEST(Philox, BelowIsUniform) {
  Philox random(2024);
  std::vector<int> count(7);
  const int draws = 70000;
  for (int k = 0; k < draws; ++k) ++count[random.below(7)];
  double chi_square = 0;
  for (const int c : count) chi_square += (c - draws / 7.0) * (c - draws / 7.0) / (draws / 7.0);
  EXPECT_LT(chi_square, 22.46);  // 6 degrees of freedom, 0.1 %
  EXPECT_EQ(random.below(1), 0u);
}

TEST(Philox, UniformStaysBelowOne) {
  EXPECT_EQ(kernels::uniform_from_bits(0), 0.0f);
  EXPECT_LT(kernels::uniform_from_bits(~0u), 1.0f);
}

TEST(Philox, SeedsAndStreamsDiffer) {
  EXPECT_NE(Philox(1).bits(), Philox(2).bits());
  EXPECT_NE(Philox(1, 0).bits(), Philox(1, 1).bits());
}

}  // namespace
}  // namespace stillpoint
