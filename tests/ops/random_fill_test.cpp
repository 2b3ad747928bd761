#include <gmock/gmock.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "engine/ops.h"
#include "kernels/common/simd.h"
#include "tests/support/op_test.h"

namespace stillpoint::test {
namespace {

OpCase make_case(const std::string& name, Shape shape, bool is_normal, double a, double b) {
  return {.name = name,
          // A tensor without elements: says on which device and in which dtype to work.
          .inputs = {Tensor::empty({0}, {.dtype = DType::f64})},
          .op =
              [=](std::span<const Tensor> x) {
                Philox random(17, 3);
                return is_normal ? ops::normal(shape, random, a, b, x[0].options())
                                 : ops::uniform(shape, random, a, b, x[0].options());
              },
          .derivatives = Derivatives::none};
}

TEST(RandomFill, AwkwardSizes) {
  std::vector<OpCase> cases;
  for (const int64_t n : kAwkwardSizes) {
    cases.push_back(make_case("uniform_" + std::to_string(n), {n}, false, -1, 2));
    cases.push_back(make_case("normal_" + std::to_string(n), {n}, true, 0.5, 2));
  }
  cases.push_back(make_case("uniform_many_chunks", {3, 16384 + 5}, false, 0, 1));
  cases.push_back(make_case("normal_many_chunks", {3, 16384 + 5}, true, 0, 1));
  check_op("random_fill", cases);
}

TEST(RandomFill, UniformIsTheSameBitsEverywhere) {
  const auto draw = [](Device device) {
    Philox random(5);
    return ops::uniform({1001}, random, -0.3, 1.7, {.device = device});
  };
  const Tensor wanted = draw(Device::cpu);
  for (const std::string& isa : kernels::available_isas()) {
    ASSERT_TRUE(kernels::force_isa(isa));
    expect_same_bits(draw(Device::cpu), wanted, isa);
  }
  kernels::force_isa("");
  if (available(Device::cuda)) expect_same_bits(draw(Device::cuda), wanted, "cuda");
}

TEST(RandomFill, FollowsTheSequence) {
  Philox random(5, 9), same(5, 9);
  const std::vector<float> v = ops::uniform({10}, random).to_vector<float>();
  for (const float x : v) EXPECT_EQ(x, same.uniform());
  // The next draw starts with the next block of four.
  same.bits();
  same.bits();
  EXPECT_EQ(random.uniform(), same.uniform());
  EXPECT_EQ(random.state().counter, 4u);
}

// Chi-square over equally probable bins; 99.99 % of true samples stay below the bound.
double chi_square(const std::vector<float>& values, double (*cumulative)(double), int bins) {
  std::vector<double> count(static_cast<size_t>(bins));
  for (const float v : values)
    count[static_cast<size_t>(std::min(bins - 1, static_cast<int>(cumulative(v) * bins)))] += 1;
  const double expected = static_cast<double>(values.size()) / bins;
  double sum = 0;
  for (const double c : count) sum += (c - expected) * (c - expected) / expected;
  return sum;
}

TEST(RandomFill, FollowsTheDistributions) {
  constexpr int kBins = 64;
  constexpr double kBound = 114;  // chi-square, 63 degrees of freedom, 0.9999
  Philox random(1);
  const auto identity = [](double x) { return x; };
  const auto normal_cumulative = [](double x) { return 0.5 * std::erfc(-x / std::sqrt(2.0)); };
  EXPECT_LT(chi_square(ops::uniform({100000}, random).to_vector<float>(), identity, kBins), kBound);
  EXPECT_LT(chi_square(ops::normal({100000}, random).to_vector<float>(), normal_cumulative, kBins),
            kBound);
}

TEST(RandomFill, RefusesWrongOptions) {
  Philox random(1);
  const double inf = std::numeric_limits<double>::infinity();
  EXPECT_THROW(ops::uniform({2}, random, 1, 0), OptionError);
  EXPECT_THROW(ops::uniform({2}, random, 0, inf), OptionError);
  EXPECT_THROW(ops::normal({2}, random, 0, -1), OptionError);
  EXPECT_THROW(ops::normal({2}, random, inf, 1), OptionError);
  EXPECT_THROW(ops::uniform({2}, random, 0, 1, {.dtype = DType::i32}), TypeError);
}

}  // namespace
}  // namespace stillpoint::test
