#include <gmock/gmock.h>

#include <cmath>
#include <limits>

#include "engine/ops.h"
#include "tests/support/op_test.h"

namespace stillpoint::test {
namespace {

enum class With { nothing, weight, bias, both };

OpCase make_case(const std::string& name, Shape shape, With with, double scale = 1) {
  const bool has_weight = with == With::weight || with == With::both;
  const bool has_bias = with == With::bias || with == With::both;
  std::vector<Tensor> inputs = {random_tensor(shape, 1, scale)};
  if (has_weight) inputs.push_back(random_tensor({shape.back()}, 2));
  if (has_bias) inputs.push_back(random_tensor({shape.back()}, 3));
  return {.name = name + (has_weight ? "_weight" : "") + (has_bias ? "_bias" : ""),
          .inputs = inputs,
          .op =
              [=](std::span<const Tensor> x) {
                return ops::layer_norm(x[0], has_weight ? x[1] : Tensor(),
                                       has_bias ? x.back() : Tensor(), {.epsilon = 1e-3});
              },
          // A weight's gradient adds over the rows.
          .terms = static_cast<double>(numel(shape))};
}

TEST(LayerNorm, AwkwardSizes) {
  std::vector<OpCase> cases;
  for (const int64_t n : kAwkwardSizes) {
    cases.push_back(make_case("channels_" + std::to_string(n), {3, n}, With::both));
    cases.push_back(make_case("rows_" + std::to_string(n), {n, 5}, With::weight));
  }
  check_op("layer_norm", cases);
}

TEST(LayerNorm, OptionalInputs) {
  std::vector<OpCase> cases;
  for (const With with : {With::nothing, With::weight, With::bias, With::both}) {
    cases.push_back(make_case("batch", {2, 3, 33}, with));
    cases.push_back(make_case("one_row", {7}, with));
  }
  cases.push_back(make_case("large", {3, 9}, With::both, 1e12));
  cases.push_back(make_case("several_chunks", {2500, 33}, With::both));
  cases.back().gradient_probes = 0;
  check_op("layer_norm", cases);
}

// A mean a thousand times the spread: a variance taken as mean(x^2) - mean(x)^2 would be noise.
TEST(LayerNorm, LargeMean) {
  OpCase c = make_case("large_mean", {4, 40}, With::both);
  std::vector<double> x = c.inputs[0].to_vector<double>();
  for (double& v : x) v = 1024 + std::round(v * 64) / 64;  // exact in float
  c.inputs[0] = Tensor::from(x, {4, 40});
  c.gradient_probes = 0;
  // The mean itself is rounded to eps 1024, and everything follows it.
  c.terms *= 1024.0 * 1024.0;
  check_op("layer_norm", {c});
}

TEST(LayerNorm, NotFinite) {
  const double inf = std::numeric_limits<double>::infinity();
  const double nan = std::numeric_limits<double>::quiet_NaN();
  check_op("layer_norm",
           {{.name = "nan_and_infinities",
             .inputs = {Tensor::from<double>({nan, 1, inf, 1, -inf, 1, 2, 1}, {4, 2})},
             .op = [](std::span<const Tensor> x) { return ops::layer_norm(x[0]); },
             .gradient_probes = 0}});
}

TEST(LayerNorm, ByHand) {
  const Tensor y =
      ops::layer_norm(Tensor::from<float>({1, 5}, {2}), Tensor::from<float>({1, 2}, {2}),
                      Tensor::from<float>({0, 10}, {2}));
  const float r = 1 / std::sqrt(4 + 1e-5f);
  EXPECT_THAT(y.to_vector<float>(),
              testing::ElementsAre(testing::FloatEq(-2 * r), testing::FloatEq(4 * r + 10)));
  EXPECT_THAT(ops::layer_norm(Tensor::full({1, 3}, 7.0)).to_vector<float>(), testing::Each(0.f));
}

TEST(LayerNorm, RefusesWrongInputs) {
  const Tensor x = Tensor::zeros({2, 3});
  EXPECT_THROW(ops::layer_norm(Tensor::zeros({})), ShapeError);
  EXPECT_THROW(ops::layer_norm(x, Tensor::zeros({2})), ShapeError);
  EXPECT_THROW(ops::layer_norm(x, {}, Tensor::zeros({2})), ShapeError);
  EXPECT_THROW(ops::layer_norm(x, Tensor::zeros({3}, {.dtype = DType::f64})), TypeError);
  EXPECT_THROW(ops::layer_norm(x, {}, {}, {.epsilon = -1}), OptionError);
}

}  // namespace
}  // namespace stillpoint::test
