#include <gmock/gmock.h>

#include <limits>

#include "engine/ops.h"
#include "tests/support/graphs.h"
#include "tests/support/op_test.h"

namespace stillpoint::test {
namespace {

using Sum = Tensor (*)(const Tensor&, const Graph&);

OpCase make_case(const std::string& name, Sum op, const Graph& factors, int64_t batch,
                 int64_t channels) {
  const int64_t from = op == ops::factor_sum ? factors.cols() : factors.rows();
  return {.name = name,
          .inputs = {random_tensor({batch, from, channels}, 3)},
          .op = [op, factors](
                    std::span<const Tensor> x) { return op(x[0], factors.to(x[0].device())); },
          .terms = 32};
}

// `rows` factors of `degree` members each.
Graph regular_factors(int32_t rows, int32_t cols, int32_t degree) {
  std::vector<std::vector<int32_t>> members(static_cast<size_t>(rows));
  for (int32_t f = 0; f < rows; ++f)
    for (int32_t m = 0; m < degree; ++m)
      members[static_cast<size_t>(f)].push_back((f * 5 + m * 3) % cols);
  return Graph::from_rows(members, cols);
}

TEST(FactorSum, AwkwardGraphs) {
  std::vector<OpCase> sums, broadcasts;
  for (const auto& graphs : {awkward_factor_graphs(), awkward_graphs()})
    for (const auto& [name, graph] : graphs) {
      sums.push_back(make_case(name, ops::factor_sum, graph, 2, 8));
      broadcasts.push_back(make_case(name, ops::factor_broadcast, graph, 2, 3));
    }
  check_op("factor_sum", sums);
  check_op("factor_broadcast", broadcasts);
}

TEST(FactorSum, AwkwardChannels) {
  const Graph uneven = awkward_factor_graphs().back().graph;
  std::vector<OpCase> cases;
  for (const int64_t channels : kAwkwardSizes)
    cases.push_back(
        make_case("channels_" + std::to_string(channels), ops::factor_sum, uneven, 1, channels));
  for (const int64_t batch : {0, 1, 7})
    cases.push_back(make_case("batch_" + std::to_string(batch), ops::factor_sum, uneven, batch, 5));
  check_op("factor_sum", cases);
}

// Every unrolled kernel, with whole vectors, odd ends and rows that float4 cannot take.
TEST(FactorSum, FixedDegrees) {
  std::vector<OpCase> cases;
  for (const int32_t degree : {1, 2, 3, 4, 5, 9})
    for (const int64_t channels : {1, 20, 33, 96}) {
      const Graph factors = regular_factors(7, 11, degree);
      ASSERT_EQ(factors.view().degree, degree);
      cases.push_back(
          make_case("degree_" + std::to_string(degree) + "_channels_" + std::to_string(channels),
                    ops::factor_sum, factors, 2, channels));
    }
  cases.push_back(make_case("sudoku", ops::factor_broadcast, sudoku_factors(3), 2, 12));
  check_op("factor_sum", cases);
}

// Known degree or not: the same additions in the same order.
TEST(FactorSum, UnrollingChangesNoBit) {
  const Tensor x = random_tensor({3, 11, 37}, 4).to(DType::f32);
  for (const int32_t degree : {2, 3, 4, 9}) {
    const Graph regular = regular_factors(7, 11, degree);
    std::vector<std::vector<int32_t>> rows(8);  // the same rows and one that differs in length
    const auto offsets = regular.offsets().to_vector<int32_t>();
    const auto indices = regular.indices().to_vector<int32_t>();
    for (size_t f = 0; f < 7; ++f)
      rows[f].assign(indices.begin() + offsets[f], indices.begin() + offsets[f + 1]);
    const Graph uneven = Graph::from_rows(rows, 11);
    for (const Device device : {Device::cpu, Device::cuda}) {
      if (!available(device)) continue;
      const auto fixed = ops::factor_sum(x.to(device), regular.to(device)).to_vector<float>();
      const auto any = ops::factor_sum(x.to(device), uneven.to(device)).to_vector<float>();
      for (size_t b = 0; b < 3; ++b)
        for (size_t k = 0; k < 7 * 37; ++k)
          ASSERT_EQ(fixed[b * 7 * 37 + k], any[b * 8 * 37 + k]) << name(device) << " " << degree;
    }
  }
}

TEST(FactorSum, NotFinite) {
  const double inf = std::numeric_limits<double>::infinity();
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const Graph factors = Graph::from_rows({{0, 1}, {1, 2}, {2}, {}}, 3);
  check_op("factor_sum", {{.name = "nan_and_infinities",
                           .inputs = {Tensor::from<double>({nan, inf, 1, -inf, 2, inf}, {1, 3, 2})},
                           .op =
                               [factors](std::span<const Tensor> x) {
                                 return ops::factor_sum(x[0], factors.to(x[0].device()));
                               },
                           .gradient_probes = 0}});
}

TEST(FactorSum, ByHand) {
  const Graph factors = Graph::from_rows({{0, 1}, {1, 2, 2}, {}}, 3);
  const Tensor x = Tensor::from<float>({1, 10, 100}, {1, 3, 1});
  EXPECT_THAT(ops::factor_sum(x, factors).to_vector<float>(), testing::ElementsAre(11, 210, 0));
  EXPECT_THAT(ops::factor_broadcast(x, factors).to_vector<float>(),
              testing::ElementsAre(1, 11, 20));
}

TEST(FactorSum, RefusesWrongInputs) {
  const Graph factors = Graph::from_rows({{0, 1}, {1, 2}}, 3);
  EXPECT_THAT(
      [&] {
        ops::factor_sum(Tensor::zeros({1, 2, 4}), factors);
      },
      testing::ThrowsMessage<ShapeError>(
          testing::HasSubstr("factor_sum: x has shape [1, 2, 4], wanted [batch, 3,")));
  EXPECT_THAT(
      [&] {
        ops::factor_broadcast(Tensor::zeros({1, 3, 4}), factors);
      },
      testing::ThrowsMessage<ShapeError>(testing::HasSubstr("wanted [batch, 2,")));
  EXPECT_THROW(ops::factor_sum(Tensor::zeros({3, 4}), factors), ShapeError);
  EXPECT_THROW(ops::factor_sum(Tensor::zeros({1, 3, 4}, {.dtype = DType::i32}), factors),
               TypeError);
  if (available(Device::cuda)) {
    EXPECT_THROW(ops::factor_sum(Tensor::zeros({1, 3, 4}), factors.to(Device::cuda)), TypeError);
  }
}

}  // namespace
}  // namespace stillpoint::test
