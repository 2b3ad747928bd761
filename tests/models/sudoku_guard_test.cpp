#include "models/sudoku/guard.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <utility>

#include "engine/error.h"

namespace stillpoint::sudoku {
namespace {

TEST(Guard, ActsOnTheTrend) {
  const GuardOptions options{.limit = 0.9, .tolerance = 1e-3, .least = 0.1, .most = 1};
  Guard guard(options);
  EXPECT_EQ(guard.weight(), 0.1);
  EXPECT_EQ(guard.observe(0.7, 1e-3), 0.1);            // calm, at the least
  EXPECT_DOUBLE_EQ(guard.observe(0.82, 1e-3), 0.125);  // expects 0.94 next
  EXPECT_DOUBLE_EQ(guard.observe(0.79, 1e-3), 0.1);
  // 6 times as much as before, twice, is more than 30 tolerances.
  EXPECT_DOUBLE_EQ(guard.observe(0.79, 6e-3), 0.125);
  for (int k = 0; k < 20; ++k) guard.observe(0.8, std::nan(""));
  EXPECT_EQ(guard.weight(), 1);  // the most
  Guard resumed(options);
  resumed.restore(guard.state());
  EXPECT_EQ(resumed.observe(0.5, 1e-3), guard.observe(0.5, 1e-3));
  EXPECT_THROW(resumed.restore({.weight = std::nan("")}), OptionError);
  EXPECT_THROW(Guard({.limit = 0}), OptionError);
  EXPECT_THROW(Guard({.limit = std::nan("")}), OptionError);
  EXPECT_THROW(Guard({.tolerance = 0}), OptionError);
  EXPECT_THROW(Guard({.least = 2, .most = 1}), OptionError);
}

TEST(Guard, TakesTheWeightOfOneWithAnotherRange) {
  Guard guard({.least = 0.5, .most = 1});
  guard.restore({.weight = 0.03});
  EXPECT_EQ(guard.weight(), 0.5);
  guard.restore({.weight = 3});
  EXPECT_EQ(guard.weight(), 1);
}

TEST(Guard, WhatIsNotFiniteIsNoCalmNorIsTheNextObservation) {
  const double inf = std::numeric_limits<double>::infinity(), nan = std::nan("");
  for (const auto& [radius, residual] :
       {std::pair{0.5, inf}, {0.5, nan}, {inf, 1e-3}, {nan, 1e-3}, {nan, nan}}) {
    Guard guard({.limit = 0.9, .tolerance = 1e-3, .least = 1, .most = 100});
    EXPECT_EQ(guard.observe(0.5, 1e-3), 1);
    EXPECT_EQ(guard.observe(radius, residual), 1.25);
    EXPECT_EQ(guard.observe(0.5, 1e-3), 1.25 * 1.25) << radius << " " << residual;
    EXPECT_EQ(guard.observe(0.5, 1e-3), 1.25);  // there is a trend again
  }
}

}  // namespace
}  // namespace stillpoint::sudoku
