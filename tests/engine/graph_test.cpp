#include "engine/graph.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/ops.h"
#include "tests/support/graphs.h"
#include "tests/support/op_test.h"

namespace stillpoint {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::ThrowsMessage;

TEST(Graph, RowsAndTranspose) {
  const Graph g = Graph::from_rows({{2, 0}, {}, {2}}, 3);
  EXPECT_EQ(g.entries(), 3);
  EXPECT_THAT(g.offsets().to_vector<int32_t>(), ElementsAre(0, 2, 2, 3));
  EXPECT_THAT(g.indices().to_vector<int32_t>(), ElementsAre(2, 0, 2));
  const Graph t = g.transposed();
  EXPECT_THAT(t.offsets().to_vector<int32_t>(), ElementsAre(0, 1, 1, 3));
  EXPECT_THAT(t.indices().to_vector<int32_t>(), ElementsAre(0, 0, 2));
  EXPECT_THAT(g.transposed_order().to_vector<int32_t>(), ElementsAre(1, 0, 2));
}

TEST(Graph, TransposingTwiceGivesTheSame) {
  for (const auto& [name, g] : test::awkward_graphs()) {
    // Built anew from the transpose's own arrays, so that nothing of g is handed through.
    const Graph t = g.transposed();
    const Graph back = Graph::from_csr(t.offsets(), t.indices(), t.cols()).transposed();
    EXPECT_EQ(back.offsets().to_vector<int32_t>(), g.offsets().to_vector<int32_t>()) << name;
    EXPECT_EQ(back.view().degree, g.view().degree) << name;
    EXPECT_EQ(back.transposed_view().degree, g.transposed_view().degree) << name;
    // Following the order there and back is the identity.
    const auto there = g.transposed_order().to_vector<int32_t>();
    const auto back_again = g.transposed().transposed_order().to_vector<int32_t>();
    for (size_t e = 0; e < there.size(); ++e)
      ASSERT_EQ(there[static_cast<size_t>(back_again[e])], static_cast<int32_t>(e)) << name;
  }
}

TEST(Graph, KnowsAFixedDegree) {
  EXPECT_EQ(test::sudoku_graph(3).view().degree, 20);
  EXPECT_EQ(test::sudoku_graph(3).transposed_view().degree, 20);
  EXPECT_EQ(Graph::from_rows({{0, 1}, {1}}, 2).view().degree, 0);
}

TEST(Graph, RefusesColumnsOutside) {
  EXPECT_THAT(
      [] {
        (void)Graph::from_rows({{0}, {3}}, 3);
      },
      ThrowsMessage<ShapeError>(HasSubstr("row 1 names column 3, wanted 0 to 2")));
  EXPECT_THROW((void)Graph::from_rows({{-1}}, 3), ShapeError);
}

// A graph made of CSR arrays where they lie is the graph made of rows.
TEST(Graph, FromCsrOnEveryDevice) {
  for (const Device device : {Device::cpu, Device::cuda}) {
    if (!available(device)) GTEST_SKIP() << "no CUDA device; the CPU agrees";
    for (const auto& [name, g] : test::awkward_factor_graphs()) {
      const Graph made = Graph::from_csr(g.offsets().to(device), g.indices().to(device), g.cols());
      EXPECT_EQ(made.device(), device);
      EXPECT_EQ(made.view().degree, g.view().degree) << name;
      EXPECT_EQ(made.transposed_view().degree, g.transposed_view().degree) << name;
      for (const auto& [a, b] : {std::pair{made, g}, {made.transposed(), g.transposed()}}) {
        EXPECT_EQ(a.rows(), b.rows());
        EXPECT_EQ(a.offsets().to_vector<int32_t>(), b.offsets().to_vector<int32_t>()) << name;
        EXPECT_EQ(a.indices().to_vector<int32_t>(), b.indices().to_vector<int32_t>()) << name;
        EXPECT_EQ(a.transposed_order().to_vector<int32_t>(),
                  b.transposed_order().to_vector<int32_t>())
            << name;
      }
    }
  }
}

// The graph of a batch's neighbours is the graph made of their rows on the host, and what it adds
// up is what every sample's own graph adds up.
TEST(Graph, FromNeighbours) {
  constexpr int32_t kKeys = 6;
  const Tensor neighbours = Tensor::from<int32_t>(
      {3, 0, 5, -1, -1, -1, 2, 2, -1, /* second sample */ 1, -1, -1, 5, 4, 0, 3, -1, -1},
      {2, 3, 3});
  const std::vector<std::vector<int32_t>> rows = {{3, 0, 5}, {}, {2, 2}, {1}, {5, 4, 0}, {3}};
  std::vector<std::vector<int32_t>> shifted = rows;
  for (size_t i = 3; i < 6; ++i)
    for (int32_t& j : shifted[i]) j += kKeys;
  const Graph wanted = Graph::from_rows(shifted, 2 * kKeys);
  const Tensor a = test::random_tensor({2, 3, 5}, 1), c = test::random_tensor({2, kKeys, 5}, 2);
  for (const Device device : {Device::cpu, Device::cuda}) {
    if (!available(device)) GTEST_SKIP() << "no CUDA device; the CPU agrees";
    const Graph made = Graph::from_neighbours(neighbours.to(device), kKeys);
    EXPECT_EQ(made.device(), device);
    for (const auto& [x, y] : {std::pair{made, wanted}, {made.transposed(), wanted.transposed()}}) {
      EXPECT_EQ(x.cols(), y.cols());
      EXPECT_EQ(x.offsets().to_vector<int32_t>(), y.offsets().to_vector<int32_t>());
      EXPECT_EQ(x.indices().to_vector<int32_t>(), y.indices().to_vector<int32_t>());
      EXPECT_EQ(x.transposed_order().to_vector<int32_t>(),
                y.transposed_order().to_vector<int32_t>());
    }
    const auto flat = [device](const Tensor& x) {
      return ops::reshape(x.to(DType::f32).to(device), {1, x.dim(0) * x.dim(1), x.dim(2)});
    };
    const Tensor sums = ops::message_sum(flat(a), flat(c), made);
    for (int64_t b = 0; b < 2; ++b) {
      const Graph own = Graph::from_rows({rows.begin() + 3 * b, rows.begin() + 3 * b + 3}, kKeys);
      const Tensor alone =
          ops::message_sum(ops::rows(a.to(DType::f32), b, 1).to(device),
                           ops::rows(c.to(DType::f32), b, 1).to(device), own.to(device));
      const Tensor here = ops::rows(ops::reshape(sums, {6, 5}), 3 * b, 3);
      EXPECT_EQ(here.to_vector<float>(), alone.to_vector<float>()) << b;
    }
  }
}

TEST(Graph, MovesBetweenDevices) {
  if (!available(Device::cuda)) GTEST_SKIP() << "no CUDA device";
  const Graph g = test::sudoku_graph(2).to(Device::cuda);
  EXPECT_EQ(g.device(), Device::cuda);
  EXPECT_EQ(g.indices().to_vector<int32_t>(), test::sudoku_graph(2).indices().to_vector<int32_t>());
}

}  // namespace
}  // namespace stillpoint
