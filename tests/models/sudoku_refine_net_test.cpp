#include "models/sudoku/refine_net.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "engine/autograd.h"
#include "engine/error.h"
#include "engine/ops.h"
#include "models/sudoku/generator.h"
#include "tests/models/sudoku_logits.h"

namespace stillpoint::sudoku {
namespace {

RefineNet small_net(int box, int64_t channels) {
  Philox random(1);
  return RefineNet({.model = Model::refine, .geometry = {box}, .channels = channels}, random);
}

TEST(RefineNet, NeighboursShareAUnit) {
  for (const auto& [box, degree] : {std::pair{2, 7}, {3, 20}, {4, 39}}) {
    const Geometry g{box};
    const Graph graph = neighbours(g);
    ASSERT_EQ(graph.entries(), int64_t{g.cells()} * degree);
    const auto all = graph.indices().to_vector<int32_t>();
    for (int i = 0; i < g.cells(); ++i) {
      for (int k = 0; k < degree; ++k) {
        const int j =
            all[static_cast<size_t>(i) * static_cast<size_t>(degree) + static_cast<size_t>(k)];
        EXPECT_TRUE(i != j && g.same_unit(i, j)) << i << " " << j;
      }
    }
  }
}

TEST(RefineNet, HasTheParametersItSays) {
  RefineNet net = small_net(3, 96);
  EXPECT_EQ(count_parameters(net), 77961);
}

// One refinement of one 4x4 board, computed from the formula with plain loops.
TEST(RefineNet, RefinesByItsFormula) {
  constexpr int kCells = 16, kWidth = 5;
  RefineNet net = small_net(2, kWidth);
  const Board board = generate({.geometry = {2}, .seed = 5}, 0).givens;
  const Tensor x = net.encode(std::span(&board, 1));
  Philox random(3);
  const Tensor h = ops::normal({1, kCells, kWidth}, random);
  const auto w = [&](const char* name) { return net.parameters().at(name).to_vector<float>(); };
  const auto table = w("given.table"), w1 = w("receiver.weight"), b1 = w("receiver.bias");
  const auto w2 = w("sender.weight"), ws = w("message.weight");
  const auto wh = w("state.weight"), bh = w("state.bias");
  const auto state = h.to_vector<float>();
  const auto times = [](const std::vector<float>& m, int row, const double* v) {
    return std::inner_product(v, v + kWidth, m.begin() + row * kWidth, 0.0);
  };
  const auto at = [&](int cell) {
    std::vector<double> v(state.begin() + cell * kWidth, state.begin() + (cell + 1) * kWidth);
    return v;
  };
  const auto got = net.refine(h, x).to_vector<float>();
  for (int i = 0; i < kCells; ++i) {
    double sum[kWidth] = {};
    const auto hi = at(i);
    for (int j = 0; j < kCells; ++j) {
      if (i == j || !Geometry{2}.same_unit(i, j)) continue;
      const auto hj = at(j);
      for (int k = 0; k < kWidth; ++k) {
        sum[k] += std::max(
            0.0, times(w1, k, hi.data()) + b1[static_cast<size_t>(k)] + times(w2, k, hj.data()));
      }
    }
    const auto sigmoid = [](double v) { return 1 / (1 + std::exp(-v)); };
    for (int k = 0; k < kWidth; ++k) {
      double from_x[3], from_h[3];
      for (int gate = 0; gate < 3; ++gate) {
        const int row = gate * kWidth + k;
        from_x[gate] = *(table.begin() + board[i] * 3 * kWidth + row) + times(ws, row, sum);
        from_h[gate] = times(wh, row, hi.data()) + bh[static_cast<size_t>(row)];
      }
      const double r = sigmoid(from_x[0] + from_h[0]), z = sigmoid(from_x[1] + from_h[1]);
      const double n = std::tanh(from_x[2] + r * from_h[2]);
      EXPECT_NEAR(got[static_cast<size_t>(i * kWidth + k)],
                  (1 - z) * n + z * hi[static_cast<size_t>(k)], 1e-5);
    }
  }
}

TEST(RefineNet, TransposingTheBoardTransposesTheAnswer) {
  const RefineNet net = small_net(3, 16);
  const Board board = generate({.seed = 3}, 0).givens;
  Board transposed = board;
  for (int cell = 0; cell < 81; ++cell) transposed[cell] = board[cell % 9 * 9 + cell / 9];
  const auto a = logits_after(net, board, 5), b = logits_after(net, transposed, 5);
  for (size_t cell = 0; cell < 81; ++cell) {
    for (size_t d = 0; d < 9; ++d) {
      EXPECT_NEAR(a[cell * 9 + d], b[(cell % 9 * 9 + cell / 9) * 9 + d], 1e-5);
    }
  }
}

TEST(RefineNet, TheLossReachesEveryParameter) {
  RefineNet net = small_net(2, 8);
  const GeneratedPuzzle made = generate({.geometry = {2}}, 0);
  const Tensor x = net.encode(std::span(&made.givens, 1));
  const Tensor h = net.refine(net.refine(net.start(1), x), x);
  backward(ops::cross_entropy(net.logits(h), digits(std::span(&made.solution, 1))));
  visit_tensors(net, [](const std::string& name, Tensor& p) {
    ASSERT_TRUE(p.grad().defined()) << name;
    const auto g = p.grad().to_vector<float>();
    EXPECT_TRUE(std::any_of(g.begin(), g.end(), [](float v) { return std::abs(v) > 1e-8f; }))
        << name;
  });
}

TEST(RefineNet, EveryDeviceGivesTheSameLogits) {
  const Board board = generate({.geometry = {4}}, 0).givens;
  RefineNet net = small_net(4, 8);
  const auto wanted = logits_after(net, board, 3);
  if (!available(Device::cuda)) GTEST_SKIP() << "no CUDA device";
  net.move_to(Device::cuda);
  const auto got = logits_after(net, board, 3);
  for (size_t k = 0; k < wanted.size(); ++k) EXPECT_NEAR(got[k], wanted[k], 1e-5);
}

TEST(RefineNet, RefusesBoardsOfAnotherSize) {
  const Board board{.geometry = {3}};
  EXPECT_THROW(small_net(2, 8).encode(std::span(&board, 1)), ShapeError);
  EXPECT_THROW(small_net(5, 8), ShapeError);
  EXPECT_THROW(small_net(2, 0), OptionError);
}

}  // namespace
}  // namespace stillpoint::sudoku
