#include "models/sudoku/symbol_net.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <vector>

#include "engine/autograd.h"
#include "engine/cuda/runtime.h"
#include "engine/ops.h"
#include "engine/parameters.h"
#include "models/sudoku/generator.h"
#include "tests/models/sudoku_logits.h"

namespace stillpoint::sudoku {
namespace {

SymbolNet small_net(int box, int64_t channels) {
  Philox random(1);
  return SymbolNet({.geometry = {box}, .channels = channels}, random);
}

TEST(SymbolNet, FactorsWantOneOfTheMembersThatShareAUnitAndADigitOrACell) {
  const Geometry g{3};
  const Graph factors = exactly_one_factors(g);
  EXPECT_EQ(factors.rows(), 324);
  EXPECT_EQ(factors.cols(), 729);
  EXPECT_EQ(factors.entries(), 324 * 9);
  const auto offsets = factors.offsets().to_vector<int32_t>();
  const auto members = factors.indices().to_vector<int32_t>();
  for (int f = 0; f < 324; ++f) {
    ASSERT_EQ(offsets[f + 1] - offsets[f], 9);
    for (int k = offsets[f]; k < offsets[f + 1]; ++k) {
      for (int l = k + 1; l < offsets[f + 1]; ++l) {
        const int a = members[k] / 9, b = members[l] / 9;  // cells
        if (f >= 243) {
          EXPECT_EQ(a, b);
        } else {
          EXPECT_EQ(members[k] % 9, members[l] % 9);
          const bool together = f < 81    ? g.row(a) == g.row(b)
                                : f < 162 ? g.column(a) == g.column(b)
                                          : g.block(a) == g.block(b);
          EXPECT_TRUE(together && a != b);
        }
      }
    }
  }
}

TEST(SymbolNet, CluesAndDigitsSayWhatTheBoardSays) {
  Board board{.geometry = {2}};
  board[5] = 3;
  const auto x = small_net(2, 8).encode(std::span(&board, 1)).to_vector<int32_t>();
  ASSERT_EQ(x.size(), 64u);
  for (int candidate = 0; candidate < 64; ++candidate) {
    EXPECT_EQ(x[candidate], candidate / 4 != 5 ? 2 : candidate % 4 == 2 ? 0 : 1) << candidate;
  }
  EXPECT_EQ(digits(std::span(&board, 1)).to_vector<int32_t>()[5], 2);
}

TEST(SymbolNet, HasTheParametersItSays) {
  SymbolNet net = small_net(3, 32);
  EXPECT_EQ(count_parameters(net), 16801);
}

TEST(SymbolNet, RenamingTheDigitsRenamesTheAnswer) {
  const SymbolNet net = small_net(3, 16);
  const Board board = generate({.seed = 2}, 0).givens;
  const std::array<int, 9> name = {4, 0, 7, 1, 8, 3, 2, 6, 5};
  Board renamed = board;
  for (int cell = 0; cell < 81; ++cell) {
    if (board[cell] != 0) renamed[cell] = static_cast<uint8_t>(name[board[cell] - 1] + 1);
  }
  const auto a = logits_after(net, board, 5), b = logits_after(net, renamed, 5);
  for (int cell = 0; cell < 81; ++cell) {
    for (int d = 0; d < 9; ++d) EXPECT_NEAR(a[cell * 9 + d], b[cell * 9 + name[d]], 2e-5);
  }
  EXPECT_NE(a, b);
}

TEST(SymbolNet, TransposingTheBoardTransposesTheAnswer) {
  const SymbolNet net = small_net(3, 16);
  const Board board = generate({.seed = 3}, 0).givens;
  Board transposed = board;
  for (int cell = 0; cell < 81; ++cell) transposed[cell % 9 * 9 + cell / 9] = board[cell];
  const auto a = logits_after(net, board, 5), b = logits_after(net, transposed, 5);
  for (int cell = 0; cell < 81; ++cell) {
    for (int d = 0; d < 9; ++d) {
      EXPECT_NEAR(a[cell * 9 + d], b[(cell % 9 * 9 + cell / 9) * 9 + d], 2e-5);
    }
  }
}

TEST(SymbolNet, BoardsOfABatchDoNotSeeEachOther) {
  const SymbolNet net = small_net(2, 8);
  std::vector<Board> boards;
  for (const auto& made : generate({.geometry = {2}}, 0, 3)) boards.push_back(made.givens);
  const NoGrad no_grad;
  const auto together =
      net.logits(net.refine(net.start(3), net.encode(boards), 2)).to_vector<float>();
  for (size_t b = 0; b < 3; ++b) {
    const auto alone = logits_after(net, boards[b], 2);
    for (size_t k = 0; k < alone.size(); ++k) {
      EXPECT_NEAR(alone[k], together[b * alone.size() + k], 1e-5);
    }
  }
}

TEST(SymbolNet, TheLossReachesEveryParameter) {
  SymbolNet net = small_net(2, 8);
  const GeneratedPuzzle made = generate({.geometry = {2}}, 0);
  const Tensor x = net.encode(std::span(&made.givens, 1));
  const Tensor h = net.refine(net.start(1), x, 2);
  backward(ops::cross_entropy(net.logits(h), digits(std::span(&made.solution, 1))));
  visit_tensors(net, [](const std::string& name, Tensor& p) {
    ASSERT_TRUE(p.grad().defined()) << name;
    const auto g = p.grad().to_vector<float>();
    // A shift of all logits changes no probability: the read-out's bias has no gradient.
    const bool moves = std::any_of(g.begin(), g.end(), [](float v) { return std::abs(v) > 1e-7f; });
    EXPECT_EQ(moves, name != "readout.bias") << name;
  });
}

TEST(SymbolNet, BothFormsGiveTheSame) {
  std::vector<Board> boards;
  for (const auto& made : generate({.geometry = {2}}, 0, 3)) boards.push_back(made.givens);
  for (const Device device : {Device::cpu, Device::cuda}) {
    if (device == Device::cuda && !available(Device::cuda)) continue;
    std::vector<float> states, last, gradient;
    for (const Form form : {Form::composed, Form::fused}) {
      SymbolNet net = small_net(2, 8);
      net.options.form = form;
      net.move_to(device);
      const Tensor x = net.encode(boards);
      const Tensor h = net.trajectory(net.start(3), x, 4);
      EXPECT_EQ(h.shape(), (Shape{4, 3, 64, 8}));
      EXPECT_EQ(net.logits(h).shape(), (Shape{4, 3, 16, 4}));
      backward(ops::sum(ops::square(net.logits(h))));
      const auto now = h.detach().to_vector<float>();
      const auto end = net.refine(net.start(3), x, 4).detach().to_vector<float>();
      const auto g = net.own.weight.grad().to_vector<float>();
      if (form == Form::composed) {
        states = now, last = end, gradient = g;
        continue;
      }
      for (size_t k = 0; k < now.size(); ++k) ASSERT_NEAR(now[k], states[k], 1e-5) << k;
      for (size_t k = 0; k < end.size(); ++k) ASSERT_NEAR(end[k], last[k], 1e-5) << k;
      const float most = *std::max_element(gradient.begin(), gradient.end(), [](float a, float b) {
        return std::abs(a) < std::abs(b);
      });
      for (size_t k = 0; k < g.size(); ++k)
        ASSERT_NEAR(g[k], gradient[k], 1e-4 * std::abs(most)) << k;
    }
  }
}

TEST(SymbolNet, RefusesBoardsOfDifferentSizes) {
  const std::vector<Board> boards = {Board{.geometry = {2}}, Board{.geometry = {3}}};
  EXPECT_THROW(small_net(2, 8).encode(boards), ShapeError);
  EXPECT_THROW(digits(boards), ShapeError);
}

}  // namespace
}  // namespace stillpoint::sudoku
