#include <gmock/gmock.h>

#include <limits>

#include "engine/ops.h"
#include "tests/support/graphs.h"
#include "tests/support/op_test.h"

namespace stillpoint::test {
namespace {

OpCase make_case(const std::string& name, const Graph& graph, int64_t batch, int64_t channels) {
  // a on a coarse grid and c half a step off it: no a + c comes near the kink at 0.
  const auto grid = [](Shape shape, uint64_t seed, double shift) {
    Tensor t = random_tensor(std::move(shape), seed, 8);
    for (int64_t k = 0; k < t.numel(); ++k) {
      double& x = t.mutable_data<double>()[k];
      x = (std::round(x) + shift) / 8;
    }
    return t;
  };
  return {.name = name,
          .inputs = {grid({batch, graph.rows(), channels}, 1, 0.0),
                     grid({batch, graph.cols(), channels}, 2, 0.5)},
          .op =
              [graph](std::span<const Tensor> x) {
                return ops::message_sum(x[0], x[1], graph.to(x[0].device()));
              },
          .terms = 32};
}

TEST(MessageSum, AwkwardGraphs) {
  std::vector<OpCase> cases;
  for (const auto& [name, graph] : awkward_graphs()) cases.push_back(make_case(name, graph, 2, 8));
  for (const auto& [name, graph] : awkward_factor_graphs())
    cases.push_back(make_case("rectangular_" + name, graph, 2, 3));
  check_op("message_sum", cases);
}

TEST(MessageSum, AwkwardChannels) {
  const Graph ring = awkward_graphs()[6].graph;
  std::vector<OpCase> cases;
  for (const int64_t channels : kAwkwardSizes)
    cases.push_back(make_case("channels_" + std::to_string(channels), ring, 1, channels));
  for (const int64_t batch : {0, 1, 7})
    cases.push_back(make_case("batch_" + std::to_string(batch), ring, batch, 5));
  check_op("message_sum", cases);
}

TEST(MessageSum, NotFinite) {
  const double inf = std::numeric_limits<double>::infinity();
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const Graph pair = Graph::from_rows({{1}, {0}, {0, 1}}, 2);
  check_op("message_sum", {{.name = "nan_and_infinities",
                            .inputs = {Tensor::from<double>({nan, 1, inf, -inf, 1, -1}, {1, 3, 2}),
                                       Tensor::from<double>({inf, nan, -inf, 1}, {1, 2, 2})},
                            .op =
                                [pair](std::span<const Tensor> x) {
                                  return ops::message_sum(x[0], x[1], pair.to(x[0].device()));
                                },
                            .gradient_probes = 0}});
}

TEST(MessageSum, ByHand) {
  const Graph path = Graph::from_rows({{1}, {0, 2}, {1}}, 3);
  const Tensor a = Tensor::from<float>({1, -2, 3}, {1, 3, 1});
  const Tensor c = Tensor::from<float>({10, 20, -30}, {1, 3, 1});
  EXPECT_THAT(ops::message_sum(a, c, path).to_vector<float>(), testing::ElementsAre(21, 8, 23));
}

TEST(MessageSum, RefusesWrongShapes) {
  const Graph path = Graph::from_rows({{1}, {0}}, 2);
  const auto call = [&](Shape a, Shape c) {
    ops::message_sum(Tensor::zeros(a), Tensor::zeros(c), path);
  };
  EXPECT_THROW(call({1, 3, 4}, {1, 2, 4}), ShapeError);
  EXPECT_THROW(call({1, 2, 4}, {1, 2, 5}), ShapeError);
  EXPECT_THROW(call({2, 4}, {1, 2, 4}), ShapeError);
  EXPECT_THROW(ops::message_sum(Tensor::zeros({1, 2, 1}, {.dtype = DType::i32}),
                                Tensor::zeros({1, 2, 1}), path),
               TypeError);
}

}  // namespace
}  // namespace stillpoint::test
