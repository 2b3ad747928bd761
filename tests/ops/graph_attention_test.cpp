#include <gmock/gmock.h>

#include <cmath>
#include <limits>

#include "engine/ops.h"
#include "tests/support/graphs.h"
#include "tests/support/op_test.h"

namespace stillpoint::test {
namespace {

struct Sizes {
  int64_t batch = 2, heads = 2, width = 4;
};

OpCase make_case(const std::string& name, const Graph& graph, Sizes s) {
  const Shape queries{s.batch, graph.rows(), s.heads * s.width};
  const Shape keys{s.batch, graph.cols(), s.heads * s.width};
  return {
      .name = name,
      .inputs = {random_tensor(queries, 1, 2), random_tensor(keys, 2, 2), random_tensor(keys, 3)},
      .op =
          [graph, heads = s.heads](std::span<const Tensor> x) {
            return ops::graph_attention(x[0], x[1], x[2], graph.to(x[0].device()), heads);
          },
      .derivatives = Derivatives::first,
      .terms = static_cast<double>(32 + s.width),
      .gradient_probes = 12};
}

TEST(GraphAttention, AwkwardGraphs) {
  std::vector<OpCase> cases;
  for (const auto& [name, graph] : awkward_graphs()) cases.push_back(make_case(name, graph, {}));
  for (const auto& [name, graph] : awkward_factor_graphs())
    cases.push_back(make_case("rectangular_" + name, graph, {.heads = 1, .width = 3}));
  check_op("graph_attention", cases);
}

TEST(GraphAttention, AwkwardSizes) {
  const Graph ring = awkward_graphs()[6].graph;
  std::vector<OpCase> cases;
  for (const int64_t width : {1, 7, 8, 31, 32, 33, 64, 65, 128})
    cases.push_back(make_case("width_" + std::to_string(width), ring, {.width = width}));
  for (const int64_t n : {0, 1, 7})
    cases.push_back(make_case("batch_" + std::to_string(n), ring, {.batch = n}));
  cases.push_back(make_case("heads_7", ring, {.heads = 7}));
  check_op("graph_attention", cases);
}

// Rows of as many entries as are taken at a time, one less, one more, and two such rows.
TEST(GraphAttention, LongRows) {
  std::vector<OpCase> cases;
  for (const int n : {31, 32, 33, 63, 64, 65, 257}) {
    std::vector<std::vector<int32_t>> rows(2);
    for (int j = 0; j < n; ++j)
      for (auto& row : rows) row.push_back(j % 50);
    cases.push_back(
        make_case("entries_" + std::to_string(n), Graph::from_rows(rows, 50), {.batch = 1}));
    cases.back().terms = n;
  }
  check_op("graph_attention", cases);
}

// The bridge to transformers: a graph network on the complete graph.
TEST(GraphAttention, OnTheCompleteGraphIsAttention) {
  constexpr int kTokens = 70;
  std::vector<std::vector<int32_t>> rows(kTokens);
  for (auto& row : rows)
    for (int32_t j = 0; j < kTokens; ++j) row.push_back(j);
  const Graph complete = Graph::from_rows(rows, kTokens);
  const Tensor g = random_tensor({2, kTokens, 48}, 4);
  for (const auto& [type, device] :
       {std::pair(DType::f64, Device::cpu), std::pair(DType::f32, Device::cpu),
        std::pair(DType::f32, Device::cuda)}) {
    if (!available(device)) continue;
    std::vector<Tensor> x;
    for (uint64_t seed = 1; seed < 4; ++seed) {
      x.push_back(random_tensor({2, kTokens, 48}, seed, 2).to(type).to(device));
      x.back().set_requires_grad();
    }
    const Tensor cotangent = g.to(type).to(device);
    const Tensor a = ops::graph_attention(x[0], x[1], x[2], complete.to(device), 3);
    const Tensor b = ops::attention(x[0], x[1], x[2], {.heads = 3});
    const auto da = vjp({&a, 1}, x, {&cotangent, 1}), db = vjp({&b, 1}, x, {&cotangent, 1});
    expect_close(a, b.to(Device::cpu).to(DType::f64), 8, kTokens, "out");
    for (size_t i = 0; i < 3; ++i)
      expect_close(da[i], db[i].to(Device::cpu).to(DType::f64), 8, kTokens, "gradient");
  }
}

// Query 0 is NaN, and key 1, which only query 1 sees, is infinite; a score of -inf has no weight.
TEST(GraphAttention, NotFinite) {
  const double inf = std::numeric_limits<double>::infinity();
  const Graph graph = Graph::from_rows({{0}, {0, 1}, {0, 2}, {2}}, 3);
  const auto op = [graph](std::span<const Tensor> x) {
    return ops::graph_attention(x[0], x[1], x[2], graph.to(x[0].device()));
  };
  check_op("graph_attention", {{.name = "nan_and_infinities",
                                .inputs = {Tensor::from<double>({NAN, 1, 2, 1}, {1, 4, 1}),
                                           Tensor::from<double>({1, inf, -inf}, {1, 3, 1}),
                                           Tensor::from<double>({1, 2, 3}, {1, 3, 1})},
                                .op = op,
                                .derivatives = Derivatives::none,
                                .gradient_probes = 0}});
}

TEST(GraphAttention, ByHand) {
  // Scores 0 and log 3 (width 1): weights 1/4 and 3/4; the second token has no neighbours.
  const Graph graph = Graph::from_rows({{0, 1}, {}}, 2);
  const Tensor q = Tensor::from<float>({1, 1}, {1, 2, 1});
  const Tensor k = Tensor::from<float>({0, std::log(3.f)}, {1, 2, 1});
  const Tensor v = Tensor::from<float>({8, 4}, {1, 2, 1});
  EXPECT_THAT(ops::graph_attention(q, k, v, graph).to_vector<float>(),
              testing::ElementsAre(testing::FloatEq(5.f), 0.f));
}

TEST(GraphAttention, RefusesWrongInputs) {
  const Graph graph = Graph::from_rows({{0, 4}, {}, {1}}, 5);
  const Tensor q = Tensor::zeros({2, 3, 4}), k = Tensor::zeros({2, 5, 4});
  EXPECT_THROW(ops::graph_attention(Tensor::zeros({3, 4}), k, k, graph), ShapeError);
  EXPECT_THROW(ops::graph_attention(k, k, k, graph), ShapeError);
  EXPECT_THROW(ops::graph_attention(q, q, q, graph), ShapeError);
  EXPECT_THROW(ops::graph_attention(q, k, Tensor::zeros({1, 5, 4}), graph), ShapeError);
  EXPECT_THROW(ops::graph_attention(q, k, k, graph, 3), OptionError);
  EXPECT_THROW(ops::graph_attention(q, k, k, graph, 0), OptionError);
  EXPECT_THROW(ops::graph_attention(q, k, Tensor::zeros({2, 5, 4}, {.dtype = DType::f64}), graph),
               TypeError);
  EXPECT_THROW(ops::graph_attention(Tensor::zeros({1, 3, 129}), Tensor::zeros({1, 5, 129}),
                                    Tensor::zeros({1, 5, 129}), graph),
               ShapeError);
}

TEST(GraphAttention, HasNoSecondDerivative) {
  const Graph loop = Graph::from_rows({{0, 1}, {1}}, 2);
  Tensor x = Tensor::full({1, 2, 1}, 0.5);
  x.set_requires_grad();
  const Tensor y = ops::sum(ops::graph_attention(x, x, x, loop));
  const Tensor one = Tensor::full({}, 1.0);
  const Tensor dx = vjp(y, x, one, {.create_graph = true});
  EXPECT_THROW(vjp(ops::sum(dx), x, one), GradientError);
}

}  // namespace
}  // namespace stillpoint::test
