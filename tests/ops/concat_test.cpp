#include <gmock/gmock.h>

#include <limits>

#include "engine/ops.h"
#include "tests/support/op_test.h"

namespace stillpoint::test {
namespace {

OpCase concat_case(const std::string& name, const std::vector<Shape>& shapes) {
  std::vector<Tensor> parts;
  for (const Shape& shape : shapes) parts.push_back(random_tensor(shape, 20 + parts.size()));
  return {.name = name, .inputs = parts, .op = [](std::span<const Tensor> in) {
            return ops::concat({in.begin(), in.end()});
          }};
}

OpCase columns_case(const std::string& name, Shape shape, int64_t begin, int64_t length) {
  return {.name = name,
          .inputs = {random_tensor(std::move(shape), 30)},
          .op = [=](std::span<const Tensor> in) { return ops::columns(in[0], begin, length); }};
}

TEST(Concat, AwkwardSizes) {
  std::vector<OpCase> cases;
  for (const int64_t n : kAwkwardSizes) {
    const std::string size = std::to_string(n);
    cases.push_back(concat_case("columns_" + size, {{3, n}, {3, 5}, {3, n}}));
    cases.push_back(concat_case("rows_" + size, {{n, 4}, {n, 8}}));
    cases.push_back(columns_case("of_" + size, {2, 3, n + 2}, 1, n));
    cases.push_back(columns_case("rows_of_" + size, {n, 12}, 4, 8));
  }
  cases.push_back(concat_case("one_part", {{2, 3}}));
  cases.push_back(concat_case("vectors", {{3}, {4}}));
  cases.push_back(columns_case("none_of_none", {3, 0}, 0, 0));
  cases.push_back(columns_case("many_rows", {3000, 12}, 1, 11));
  check_op("concat", cases);
}

TEST(Concat, NotFinite) {
  const double inf = std::numeric_limits<double>::infinity();
  const double nan = std::numeric_limits<double>::quiet_NaN();
  OpCase c = concat_case("nan_and_infinities", {});
  c.inputs = {Tensor::from<double>({nan, 1}, {2, 1}), Tensor::from<double>({inf, -inf}, {2, 1})};
  c.gradient_probes = 0;
  check_op("concat", {c});
}

TEST(Concat, ByHand) {
  const Tensor a = Tensor::from<float>({1, 2, 3, 4}, {2, 2});
  const Tensor b = Tensor::from<float>({5, 6}, {2, 1});
  const Tensor both = ops::concat({a, b});
  EXPECT_THAT(both.to_vector<float>(), testing::ElementsAre(1, 2, 5, 3, 4, 6));
  EXPECT_THAT(ops::columns(both, 1, 2).to_vector<float>(), testing::ElementsAre(2, 5, 4, 6));
}

TEST(Concat, RefusesWrongShapes) {
  const Tensor a = Tensor::zeros({2, 3});
  EXPECT_THROW(ops::concat({}), ShapeError);
  EXPECT_THROW(ops::concat({a, Tensor::zeros({3, 3})}), ShapeError);
  EXPECT_THROW(ops::concat({a, Tensor::zeros({3})}), ShapeError);
  EXPECT_THROW(ops::concat({a, Tensor::zeros({2, 3}, {.dtype = DType::f64})}), TypeError);
  EXPECT_THROW(ops::concat({Tensor::zeros({})}), ShapeError);
  EXPECT_THROW(ops::columns(a, 2, 2), ShapeError);
  EXPECT_THROW(ops::columns(a, -1, 1), ShapeError);
  EXPECT_THROW(ops::columns(Tensor::zeros({}), 0, 0), ShapeError);
}

}  // namespace
}  // namespace stillpoint::test
