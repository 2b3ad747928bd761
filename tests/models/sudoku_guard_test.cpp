#include "models/sudoku/guard.h"

#include <gtest/gtest.h>

#include <cmath>

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
  EXPECT_THROW(resumed.restore({.weight = 2}), OptionError);
  EXPECT_THROW(Guard({.limit = 0}), OptionError);
  EXPECT_THROW(Guard({.limit = std::nan("")}), OptionError);
  EXPECT_THROW(Guard({.tolerance = 0}), OptionError);
  EXPECT_THROW(Guard({.least = 2, .most = 1}), OptionError);
}

}  // namespace
}  // namespace stillpoint::sudoku
