#include <gmock/gmock.h>

#include <cmath>
#include <limits>

#include "engine/ops.h"
#include "tests/support/op_test.h"

namespace stillpoint::test {
namespace {

Tensor apply(std::span<const Tensor> x) { return ops::gru_cell(x[0], x[1], x[2]); }

OpCase make_case(const std::string& name, Shape state, double scale = 3) {
  Shape gates = state;
  gates.back() *= 3;
  return {.name = name,
          .inputs = {random_tensor(gates, 1, scale), random_tensor(gates, 2, scale),
                     random_tensor(state, 3)},
          .op = apply,
          .terms = 4};
}

TEST(GruCell, AwkwardSizes) {
  std::vector<OpCase> cases;
  for (const int64_t n : kAwkwardSizes) {
    cases.push_back(make_case("channels_" + std::to_string(n), {2, 3, n}));
    cases.push_back(make_case("rows_" + std::to_string(n), {n, 5}));
  }
  cases.push_back(make_case("one_row", {4}));
  cases.push_back(make_case("saturated", {3, 33}, 200));
  cases.push_back(make_case("several_chunks", {500, 97}));
  cases.back().gradient_probes = 0;
  check_op("gru_cell", cases);
}

TEST(GruCell, NotFinite) {
  const double inf = std::numeric_limits<double>::infinity();
  const double nan = std::numeric_limits<double>::quiet_NaN();
  check_op(
      "gru_cell",
      {{.name = "nan_and_infinities",
        .inputs = {Tensor::from<double>({nan, inf, -inf, 1, 0, 1, inf, 1, 0, 1, 1, -inf}, {12}),
                   Tensor::from<double>({0, 1, 1, nan, 1, 1, 1, -inf, 1, 1, 2, 1}, {12}),
                   Tensor::from<double>({1, 2, inf, 1}, {4})},
        .op = apply,
        .gradient_probes = 0}});
}

TEST(GruCell, ByHand) {
  // Closed update gate: the state stays. Open: the candidate, whose recurrent part the reset gate
  // lets through or not.
  const Tensor x = Tensor::from<float>({0, -50, 50, 50, -50, -50, 0, 0.5f, 0.5f}, {9});
  const Tensor u = Tensor::from<float>({0, 0, 0, 0, 0, 0, 1, 2, 2}, {9});
  const Tensor h = Tensor::from<float>({7, 7, 7}, {3});
  const std::vector<float> out = ops::gru_cell(x, u, h).to_vector<float>();
  EXPECT_FLOAT_EQ(out[0], 7);
  EXPECT_FLOAT_EQ(out[1], std::tanh(0.5f));
  EXPECT_FLOAT_EQ(out[2], std::tanh(2.5f));
}

TEST(GruCell, RefusesWrongShapesAndTypes) {
  const auto zeros = [](Shape shape) { return Tensor::zeros(std::move(shape)); };
  EXPECT_THROW(ops::gru_cell(zeros({2, 9}), zeros({2, 9}), zeros({2, 4})), ShapeError);
  EXPECT_THROW(ops::gru_cell(zeros({2, 12}), zeros({1, 12}), zeros({2, 4})), ShapeError);
  EXPECT_THROW(ops::gru_cell(zeros({}), zeros({}), zeros({})), ShapeError);
  EXPECT_THROW(ops::gru_cell(Tensor::zeros({3}, {.dtype = DType::f64}), zeros({3}), zeros({1})),
               TypeError);
  EXPECT_THROW(ops::gru_cell(Tensor(), zeros({3}), zeros({1})), TypeError);
}

}  // namespace
}  // namespace stillpoint::test
