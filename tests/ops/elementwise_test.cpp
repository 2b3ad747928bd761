#include <gmock/gmock.h>

#include <cmath>
#include <limits>

#include "engine/dispatch.h"

#include "engine/ops.h"
#include "tests/support/op_test.h"

namespace stillpoint::test {
namespace {

using Unary = std::function<Tensor(const Tensor&)>;
using Binary = std::function<Tensor(const Tensor&, const Tensor&)>;

enum class Domain { all, positive };

struct UnaryOp {
  std::string name;
  Unary op;
  Domain domain = Domain::all;
};

const std::vector<UnaryOp>& unary_ops() {
  static const std::vector<UnaryOp> all = {
      {"affine", [](const Tensor& x) { return ops::affine(x, -1.5, 0.25); }},
      {"neg", ops::neg},
      {"relu", ops::relu},
      {"sigmoid", ops::sigmoid},
      {"tanh", ops::tanh},
      {"silu", ops::silu},
      {"exp", ops::exp},
      {"log", ops::log, Domain::positive},
      {"sqrt", ops::sqrt, Domain::positive},
      {"rsqrt", ops::rsqrt, Domain::positive},
      {"square", ops::square}};
  return all;
}

// Away from the kink of relu; away from 0, where log and roots are steep, if `positive`.
Tensor argument(Shape shape, Domain domain) {
  Tensor x = random_tensor(std::move(shape), 3, 4.0, 0.05);
  if (domain == Domain::positive)
    for (int64_t k = 0; k < x.numel(); ++k) {
      double& value = x.mutable_data<double>()[k];
      value = std::abs(value) + 0.25;
    }
  return x;
}

OpCase unary_case(const UnaryOp& op, const std::string& name, Tensor x, int probes = 24) {
  return {.name = op.name + "_" + name,
          .inputs = {std::move(x)},
          .op = [f = op.op](std::span<const Tensor> in) { return f(in[0]); },
          .gradient_probes = probes};
}

OpCase binary_case(const std::string& name, const Binary& op, Shape a, Shape b, double terms = 1) {
  return {
      .name = name + "_" + to_string(a) + "_" + to_string(b),
      .inputs = {random_tensor(std::move(a), 4, 2.0), random_tensor(std::move(b), 5, 2.0, 0.25)},
      .op = [op](std::span<const Tensor> in) { return op(in[0], in[1]); },
      .terms = terms};
}

const std::vector<std::pair<std::string, Binary>>& binary_ops() {
  static const std::vector<std::pair<std::string, Binary>> all = {
      {"add", ops::add}, {"sub", ops::sub}, {"mul", ops::mul}, {"div", ops::div}};
  return all;
}

TEST(Elementwise, UnaryAwkwardSizes) {
  std::vector<OpCase> cases;
  for (const UnaryOp& op : unary_ops())
    for (const int64_t n : kAwkwardSizes)
      cases.push_back(unary_case(op, std::to_string(n), argument({n}, op.domain)));
  check_op("elementwise", cases);
}

TEST(Elementwise, BinaryAwkwardSizes) {
  std::vector<OpCase> cases;
  for (const auto& [name, op] : binary_ops())
    for (const int64_t n : kAwkwardSizes) {
      cases.push_back(binary_case(name, op, {n}, {n}));
      cases.push_back(binary_case(name, op, {3, n}, {n}, 3));
      cases.push_back(binary_case(name, op, {n, 5}, {n, 1}, 5));
    }
  check_op("elementwise", cases);
}

TEST(Elementwise, Broadcasts) {
  std::vector<OpCase> cases;
  for (const auto& [name, op] : binary_ops()) {
    cases.push_back(binary_case(name, op, {2, 3, 4}, {}, 24));
    cases.push_back(binary_case(name, op, {}, {2, 3, 4}, 24));
    cases.push_back(binary_case(name, op, {2, 3, 4}, {4}, 6));
    cases.push_back(binary_case(name, op, {4}, {2, 3, 4}, 6));
    cases.push_back(binary_case(name, op, {2, 3, 4}, {1, 3, 4}, 2));
    cases.push_back(binary_case(name, op, {2, 3, 4}, {2, 3, 1}, 4));
    cases.push_back(binary_case(name, op, {2, 3, 1}, {2, 3, 4}, 4));
    cases.push_back(binary_case(name, op, {3}, {1, 1, 3}));
    cases.push_back(binary_case(name, op, {0, 4}, {4}));
  }
  // Long enough for several chunks, with rows that straddle them.
  cases.push_back(binary_case("mul", ops::mul, {200, 100}, {100}, 200));
  cases.push_back(binary_case("mul", ops::mul, {200, 100}, {200, 1}, 100));
  cases.push_back(binary_case("add", ops::add, {200, 100}, {200, 100}));
  check_op("elementwise", cases);
}

// The edges of float: overflow, subnormals, steep and flat ends, and what is not a number.
TEST(Elementwise, NotFiniteAndExtreme) {
  const double inf = std::numeric_limits<double>::infinity();
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const std::vector<double> values = {nan, inf, -inf, 0,     -0.0, 88.5, -88.5, 87.3, -87.3, -100,
                                      1,   -1,  1e-6, -1e-6, 20,   -20,  0.3,   -0.3, 1e-30};
  const int64_t n = std::ssize(values);
  std::vector<OpCase> cases;
  for (const UnaryOp& op : unary_ops()) {
    if (op.domain == Domain::all)
      cases.push_back(unary_case(op, "edges", Tensor::from(values, {n}), 0));
    if (op.name == "square" || op.name == "exp") cases.back().derivatives = Derivatives::none;
  }
  const Tensor positive = Tensor::from<double>({nan, inf, 0, 1e-30, 1e30, 1e-40, -1}, {7});
  for (const UnaryOp& op : unary_ops())
    if (op.domain == Domain::positive) {
      cases.push_back(unary_case(op, "edges", positive, 0));
      cases.back().derivatives = Derivatives::none;
    }
  check_op("elementwise", cases);
}

TEST(Elementwise, ByHand) {
  const Tensor a = Tensor::from<float>({1, -2, 3, 4}, {2, 2});
  const Tensor b = Tensor::from<float>({10, 20}, {2});
  const auto values = [](const Tensor& t) { return t.to_vector<float>(); };
  EXPECT_THAT(values(ops::add(a, b)), testing::ElementsAre(11, 18, 13, 24));
  EXPECT_THAT(values(ops::sub(b, a)), testing::ElementsAre(9, 22, 7, 16));
  EXPECT_THAT(values(ops::mul(a, Tensor::from<float>({2, 3}, {2, 1}))),
              testing::ElementsAre(2, -4, 9, 12));
  EXPECT_THAT(values(ops::relu(a)), testing::ElementsAre(1, 0, 3, 4));
  EXPECT_THAT(values(ops::affine(a, 2, 1)), testing::ElementsAre(3, -3, 7, 9));
  EXPECT_EQ(ops::relu(Tensor::full({}, 0.0).set_requires_grad()).item(), 0.0);
}

TEST(Elementwise, GradientOnlyWhereWanted) {
  Tensor a = Tensor::full({3}, 2.0);
  const Tensor b = Tensor::full({3}, 3.0);
  a.set_requires_grad();
  const KernelCounts before = kernel_counts();
  const Tensor y = ops::mul(a, b);
  (void)vjp(y, a, Tensor::full({3}, 1.0));
  EXPECT_EQ(kernel_counts().cpu - before.cpu, 2);  // one product forward, one backward
}

TEST(Elementwise, RefusesWrongInputs) {
  const auto add = [](Shape a, Shape b) { ops::add(Tensor::zeros(a), Tensor::zeros(b)); };
  EXPECT_THROW(add({2, 3}, {2}), ShapeError);
  EXPECT_THROW(add({3, 1}, {1, 4}), ShapeError);
  EXPECT_THROW(add({2, 3, 4}, {3, 1}), ShapeError);
  EXPECT_THROW(add({2, 1, 4}, {2, 3, 4}), ShapeError);
  EXPECT_THROW(ops::exp(Tensor::zeros({2}, {.dtype = DType::i32})), TypeError);
  EXPECT_THROW(ops::exp(Tensor()), TypeError);
  EXPECT_THROW(ops::mul(Tensor::zeros({2}), Tensor::zeros({2}, {.dtype = DType::f64})), TypeError);
}

}  // namespace
}  // namespace stillpoint::test
