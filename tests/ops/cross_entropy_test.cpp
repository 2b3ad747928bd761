#include <gmock/gmock.h>

#include <cmath>
#include <limits>

#include "engine/ops.h"
#include "tests/support/op_test.h"

namespace stillpoint::test {
namespace {

const double kInf = std::numeric_limits<double>::infinity();
const double kNan = std::numeric_limits<double>::quiet_NaN();

Tensor loss(std::span<const Tensor> x) { return ops::cross_entropy(x[0], x[1]); }
Tensor probabilities(std::span<const Tensor> x) { return ops::softmax(x[0]); }

OpCase loss_case(const std::string& name, Shape shape, Tensor targets = {}) {
  Shape rows = shape;
  const auto classes = static_cast<int32_t>(rows.back());
  rows.pop_back();
  if (!targets) targets = random_indices(rows, classes, 2);
  return {.name = name,
          .inputs = {random_tensor(shape, 1, 4), targets},
          .op = loss,
          .terms = static_cast<double>(classes)};
}

OpCase softmax_case(const std::string& name, Shape shape) {
  const auto classes = static_cast<double>(shape.back());
  return {.name = name,
          .inputs = {random_tensor(std::move(shape), 1, 4)},
          .op = probabilities,
          .terms = classes};
}

TEST(CrossEntropy, AwkwardSizes) {
  std::vector<OpCase> cases;
  for (const int64_t n : kAwkwardSizes) {
    if (n > 0) cases.push_back(loss_case("classes_" + std::to_string(n), {5, n}));
    cases.push_back(loss_case("rows_" + std::to_string(n), {n, 9}));
  }
  cases.push_back(loss_case("one_row", {4}));
  cases.push_back(loss_case("boards", {3, 81, 9}));
  cases.push_back(loss_case("several_chunks", {2000, 9}));
  cases.back().gradient_probes = 0;
  // More groups than the block that adds them has threads.
  cases.push_back(loss_case("many_groups", {64 * 256 + 3, 2}));
  cases.back().derivatives = Derivatives::none;
  check_op("cross_entropy", cases);
}

TEST(CrossEntropy, LeavesNegativeTargetsOut) {
  check_op("cross_entropy", {loss_case("some", {4, 3}, Tensor::from<int32_t>({2, -1, 0, -7}, {4})),
                             loss_case("all", {2, 3}, Tensor::from<int32_t>({-1, -1}, {2}))});
  const Tensor logits = Tensor::from<float>({1, 2, 5, 5}, {2, 2});
  EXPECT_FLOAT_EQ(
      static_cast<float>(ops::cross_entropy(logits, Tensor::from<int32_t>({1, -1}, {2})).item()),
      std::log(1 + std::exp(-1.f)));
  EXPECT_EQ(ops::cross_entropy(logits, Tensor::from<int32_t>({-1, -1}, {2})).item(), 0);
}

TEST(CrossEntropy, NotFinite) {
  const auto one_row = [](const std::string& name, std::vector<double> row, int32_t target) {
    return OpCase{.name = name,
                  .inputs = {Tensor::from(row, {1, static_cast<int64_t>(row.size())}),
                             Tensor::from<int32_t>({target}, {1})},
                  .op = loss,
                  .gradient_probes = 0};
  };
  // The saved log_sum rounds log 2 away, so the kernels' gradient is not that of softmax (see
  // kernels/cross_entropy/cross_entropy.h), which the composed one uses.
  OpCase large = one_row("large", {3e38, -3e38, 3e38}, 2);
  large.derivatives = Derivatives::first;
  check_op("cross_entropy",
           {one_row("nan", {1, kNan, 2}, 0), one_row("infinite", {1, kInf, 2}, 0),
            one_row("impossible", {1, -kInf, 2}, 0), one_row("impossible_target", {1, -kInf, 2}, 1),
            one_row("nothing", {-kInf, -kInf}, 0), one_row("left_out", {kNan, kInf}, -1), large});
}

TEST(CrossEntropy, ByHand) {
  const Tensor logits = Tensor::from<float>({0, 0, 0, 0, 100, 0, 0, 0}, {2, 4});
  const Tensor targets = Tensor::from<int32_t>({3, 0}, {2});
  EXPECT_FLOAT_EQ(static_cast<float>(ops::cross_entropy(logits, targets).item()),
                  std::log(4.f) / 2);
}

TEST(CrossEntropy, RefusesWrongInputs) {
  const Tensor logits = Tensor::zeros({2, 3});
  const auto targets = [](std::vector<int32_t> t) {
    return Tensor::from(t, {static_cast<int64_t>(t.size())});
  };
  EXPECT_THROW(ops::cross_entropy(logits, targets({0})), ShapeError);
  EXPECT_THROW(ops::cross_entropy(logits, Tensor::zeros({2})), TypeError);
  EXPECT_THROW(ops::cross_entropy(logits, targets({0, 3})), OptionError);
  EXPECT_THROW(ops::cross_entropy(Tensor::zeros({}), targets({0})), ShapeError);
  EXPECT_THROW(ops::softmax(Tensor::zeros({})), ShapeError);
  EXPECT_THROW(ops::softmax(targets({1})), TypeError);
}

TEST(CrossEntropy, MarksTargetsOutsideOnCuda) {
  if (!available(Device::cuda)) GTEST_SKIP() << "no CUDA device";
  Tensor logits = Tensor::zeros({2, 3}).to(Device::cuda);
  logits.set_requires_grad();
  const Tensor targets = Tensor::from<int32_t>({1, 3}, {2}).to(Device::cuda);
  const Tensor out = ops::cross_entropy(logits, targets);
  EXPECT_TRUE(std::isnan(out.item()));
  for (const bool again : {true, false}) {
    const Tensor one = Tensor::full({}, 1.0, {.device = Device::cuda});
    const std::vector<float> g = vjp(out, logits, one, {.create_graph = again}).to_vector<float>();
    EXPECT_THAT(std::vector<float>(g.begin(), g.begin() + 3),
                testing::ElementsAre(testing::FloatEq(1.f / 6), testing::FloatEq(-2.f / 6),
                                     testing::FloatEq(1.f / 6)));
    EXPECT_THAT(std::vector<float>(g.begin() + 3, g.end()),
                testing::Each(testing::Truly([](float v) { return std::isnan(v); })));
  }
}

TEST(Softmax, AwkwardSizes) {
  std::vector<OpCase> cases;
  for (const int64_t n : kAwkwardSizes) {
    cases.push_back(softmax_case("classes_" + std::to_string(n), {3, n}));
    cases.push_back(softmax_case("rows_" + std::to_string(n), {n, 9}));
  }
  cases.push_back(softmax_case("one_row", {4}));
  cases.push_back(softmax_case("several_chunks", {2000, 9}));
  cases.back().gradient_probes = 0;
  check_op("softmax", cases);
}

TEST(Softmax, NotFinite) {
  check_op("softmax", {{.name = "nan_and_infinities",
                        .inputs = {Tensor::from<double>(
                            {1, kNan, kInf, 0, -kInf, 1, -kInf, -kInf, 3e38, -3e38}, {5, 2})},
                        .op = probabilities,
                        .gradient_probes = 0}});
}

}  // namespace
}  // namespace stillpoint::test
