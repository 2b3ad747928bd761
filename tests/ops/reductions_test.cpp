#include <gmock/gmock.h>

#include <limits>

#include "engine/ops.h"
#include "tests/support/op_test.h"

namespace stillpoint::test {
namespace {

using ops::KeepDim;

OpCase make_case(std::string name, Tensor x, std::function<Tensor(const Tensor&)> f, double terms) {
  return {.name = std::move(name),
          .inputs = {std::move(x)},
          .op = [f](std::span<const Tensor> in) { return f(in[0]); },
          .terms = terms};
}

// All numbers differ by far more than the step of the finite differences.
Tensor distinct(Shape shape) {
  Tensor x = random_tensor(std::move(shape), 6);
  for (int64_t k = 0; k < x.numel(); ++k)
    x.mutable_data<double>()[k] = std::remainder(static_cast<double>(k) * 0.61803, 1.0);
  return x;
}

TEST(Reductions, AwkwardSizes) {
  std::vector<OpCase> cases;
  for (const int64_t n : kAwkwardSizes) {
    const std::string size = std::to_string(n);
    const double terms = static_cast<double>(n);
    const auto sum = [](int dim, KeepDim keep) {
      return [=](const Tensor& x) { return ops::sum(x, dim, keep); };
    };
    cases.push_back(make_case(
        "sum_all_" + size, random_tensor({n}, 1), [](const Tensor& x) { return ops::sum(x); },
        terms));
    cases.push_back(
        make_case("sum_last_" + size, random_tensor({3, n}, 2), sum(-1, KeepDim::no), terms));
    cases.push_back(
        make_case("sum_first_" + size, random_tensor({n, 5}, 3), sum(0, KeepDim::yes), terms));
    cases.push_back(
        make_case("sum_middle_" + size, random_tensor({2, 4, n}, 4), sum(1, KeepDim::no), 4));
    if (n == 0) continue;
    cases.push_back(make_case(
        "mean_all_" + size, random_tensor({n}, 1), [](const Tensor& x) { return ops::mean(x); },
        terms));
    cases.push_back(make_case(
        "mean_first_" + size, random_tensor({n, 3}, 5),
        [](const Tensor& x) { return ops::mean(x, 0); }, terms));
    for (const int dim : {0, 1, 2}) {
      cases.push_back(make_case(
          "max_" + std::to_string(dim) + "_" + size, distinct({2, n, 3}),
          [dim](const Tensor& x) { return ops::max(x, dim); }, 1));
      cases.back().derivatives = Derivatives::first;
    }
  }
  check_op("reductions", cases);
}

TEST(Reductions, ManyChunks) {
  std::vector<OpCase> cases;
  const auto add = [&](const char* name, Shape shape, int dim) {
    const double terms = static_cast<double>(shape[static_cast<size_t>(dim)]);
    cases.push_back(make_case(
        name, random_tensor(std::move(shape), 7),
        [dim](const Tensor& x) { return ops::sum(x, dim); }, terms));
  };
  add("long_run", {2, 10007}, 1);
  add("many_rows", {1500, 33}, 0);
  add("many_columns", {60, 2100}, 0);
  cases.push_back(make_case(
      "all", random_tensor({20011}, 8), [](const Tensor& x) { return ops::mean(x); }, 20011));
  check_op("reductions", cases);
}

TEST(Reductions, Broadcasting) {
  std::vector<OpCase> cases;
  const auto both = [&](const Shape& small, const Shape& large, double terms) {
    cases.push_back(make_case(
        "sum_to_" + to_string(small), random_tensor(large, 9),
        [small](const Tensor& x) { return ops::sum_to(x, small); }, terms));
    cases.push_back(make_case(
        "broadcast_to_" + to_string(large), random_tensor(small, 10),
        [large](const Tensor& x) { return ops::broadcast_to(x, large); }, terms));
  };
  both({}, {2, 3, 4}, 24);
  both({4}, {2, 3, 4}, 6);
  both({1, 1, 4}, {2, 3, 4}, 6);
  both({2, 3, 1}, {2, 3, 4}, 4);
  both({33}, {257, 33}, 257);
  both({257, 1}, {257, 33}, 33);
  both({5}, {0, 5}, 1);
  check_op("reductions", cases);
}

TEST(Reductions, NotFinite) {
  const double inf = std::numeric_limits<double>::infinity();
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const Tensor x =
      Tensor::from<double>({1, nan, 3, inf, 1, -inf, inf, inf, 2, -inf, -inf, -inf}, {4, 3});
  std::vector<OpCase> cases;
  for (const int dim : {0, 1}) {
    const std::string name = std::to_string(dim);
    cases.push_back(make_case(
        "sum_" + name, x, [dim](const Tensor& t) { return ops::sum(t, dim); }, 4));
    cases.push_back(make_case(
        "max_" + name, x, [dim](const Tensor& t) { return ops::max(t, dim); }, 4));
    cases.back().derivatives = Derivatives::first;
  }
  for (OpCase& c : cases) c.gradient_probes = 0;
  check_op("reductions", cases);
}

TEST(Reductions, MaxTakesDimensionsThatItsIndicesCanName) {
  const int64_t most = std::numeric_limits<int32_t>::max();
  EXPECT_NO_THROW(ops::max(Tensor::empty({most, 0}), 0));
  EXPECT_THROW(ops::max(Tensor::empty({most + 1, 0}), 0), ShapeError);
}

TEST(Reductions, ByHand) {
  const Tensor x = Tensor::from<float>({1, 5, 5, 2, -1, 4}, {2, 3});
  const auto values = [](const Tensor& t) { return t.to_vector<float>(); };
  EXPECT_THAT(values(ops::sum(x)), testing::ElementsAre(16));
  EXPECT_THAT(values(ops::sum(x, 0)), testing::ElementsAre(3, 4, 9));
  EXPECT_THAT(values(ops::mean(x, -1)),
              testing::Pointwise(testing::FloatEq(), {11 / 3.f, 5 / 3.f}));
  EXPECT_THAT(values(ops::max(x, 1)), testing::ElementsAre(5, 4));
  EXPECT_EQ(ops::sum(x, 1, KeepDim::yes).shape(), (Shape{2, 1}));
  EXPECT_EQ(ops::sum(x, -2).shape(), (Shape{3}));
  Tensor leaf = x.clone();
  leaf.set_requires_grad();
  const Tensor dx = vjp(ops::max(leaf, 1), leaf, Tensor::full({2}, 1.0));
  EXPECT_THAT(values(dx), testing::ElementsAre(0, 1, 0, 0, 0, 1));  // the first of equal maxima
}

TEST(Reductions, RefusesWrongInputs) {
  const Tensor x = Tensor::zeros({2, 3});
  EXPECT_THROW(ops::sum(x, 2), ShapeError);
  EXPECT_THROW(ops::sum(x, -3), ShapeError);
  EXPECT_THROW(ops::max(Tensor::zeros({2, 0}), 1), ShapeError);
  EXPECT_THROW(ops::mean(Tensor::zeros({0})), ShapeError);
  EXPECT_THROW(ops::sum_to(x, {2}), ShapeError);
  EXPECT_THROW(ops::broadcast_to(x, {3}), ShapeError);
  EXPECT_THROW(ops::sum(Tensor::zeros({2}, {.dtype = DType::i32})), TypeError);
  Tensor leaf = x.clone();
  leaf.set_requires_grad();
  const Tensor y = ops::max(leaf, 0);
  const Tensor g = vjp(y, leaf, Tensor::full({3}, 1.0).set_requires_grad(), {.create_graph = true});
  EXPECT_THROW(backward(ops::sum(g)), GradientError);
}

}  // namespace
}  // namespace stillpoint::test
