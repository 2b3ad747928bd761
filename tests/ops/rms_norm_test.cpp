#include <gmock/gmock.h>

#include <cmath>
#include <limits>

#include "engine/ops.h"
#include "tests/support/op_test.h"

namespace stillpoint::test {
namespace {

enum class With { nothing, weight, residual, both };

OpCase make_case(const std::string& name, Shape shape, With with, double scale = 1) {
  const bool has_weight = with == With::weight || with == With::both;
  const bool has_residual = with == With::residual || with == With::both;
  std::vector<Tensor> inputs = {random_tensor(shape, 1, scale)};
  if (has_weight) inputs.push_back(random_tensor({shape.back()}, 2));
  if (has_residual) inputs.push_back(random_tensor(shape, 3, scale));
  return {.name = name + (has_weight ? "_weight" : "") + (has_residual ? "_residual" : ""),
          .inputs = inputs,
          .op =
              [=](std::span<const Tensor> x) {
                return ops::rms_norm(x[0], has_weight ? x[1] : Tensor(),
                                     has_residual ? x.back() : Tensor(), {.epsilon = 1e-3});
              },
          // A weight's gradient adds over the rows.
          .terms = static_cast<double>(numel(shape))};
}

TEST(RmsNorm, AwkwardSizes) {
  std::vector<OpCase> cases;
  for (const int64_t n : kAwkwardSizes) {
    cases.push_back(make_case("channels_" + std::to_string(n), {3, n}, With::both));
    cases.push_back(make_case("rows_" + std::to_string(n), {n, 5}, With::weight));
  }
  check_op("rms_norm", cases);
}

TEST(RmsNorm, OptionalInputs) {
  std::vector<OpCase> cases;
  for (const With with : {With::nothing, With::weight, With::residual, With::both}) {
    cases.push_back(make_case("batch", {2, 3, 33}, with));
    cases.push_back(make_case("one_row", {7}, with));
  }
  cases.push_back(make_case("large", {3, 9}, With::both, 1e12));
  cases.push_back(make_case("several_chunks", {2500, 33}, With::both));
  cases.back().gradient_probes = 0;
  check_op("rms_norm", cases);
}

TEST(RmsNorm, NotFinite) {
  const double inf = std::numeric_limits<double>::infinity();
  const double nan = std::numeric_limits<double>::quiet_NaN();
  check_op("rms_norm", {{.name = "nan_and_infinities",
                         .inputs = {Tensor::from<double>({nan, 1, inf, 1, -inf, 1, 2, 1}, {4, 2})},
                         .op = [](std::span<const Tensor> x) { return ops::rms_norm(x[0]); },
                         .gradient_probes = 0}});
}

TEST(RmsNorm, ByHand) {
  const Tensor y =
      ops::rms_norm(Tensor::from<float>({3, 4}, {2}), Tensor::from<float>({1, 2}, {2}));
  const float r = 1 / std::sqrt(12.5f + 1e-5f);
  EXPECT_THAT(y.to_vector<float>(),
              testing::ElementsAre(testing::FloatEq(3 * r), testing::FloatEq(8 * r)));
  EXPECT_THAT(ops::rms_norm(Tensor::zeros({1, 3})).to_vector<float>(), testing::Each(0.f));
}

TEST(RmsNorm, RefusesWrongInputs) {
  const Tensor x = Tensor::zeros({2, 3});
  EXPECT_THROW(ops::rms_norm(Tensor::zeros({})), ShapeError);
  EXPECT_THROW(ops::rms_norm(x, Tensor::zeros({2})), ShapeError);
  EXPECT_THROW(ops::rms_norm(x, {}, Tensor::zeros({3})), ShapeError);
  EXPECT_THROW(ops::rms_norm(x, Tensor::zeros({3}, {.dtype = DType::f64})), TypeError);
  EXPECT_THROW(ops::rms_norm(x, {}, {}, {.epsilon = -1}), OptionError);
}

}  // namespace
}  // namespace stillpoint::test
