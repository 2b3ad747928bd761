#include "tests/examples/relational_net.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "kernels/common/parallel.h"
#include "models/sudoku/generator.h"

namespace stillpoint::test {
namespace {

using examples::RelationalNet;

constexpr sudoku::Geometry kGeometry{.box = 2};
constexpr int64_t kCells = kGeometry.cells(), kDigits = kGeometry.side();
constexpr int kSteps = 8;  // of thinking, in training

Graph board_graph() {
  const std::vector<int32_t> all = sudoku::peers(kGeometry);
  const auto degree = static_cast<int64_t>(all.size()) / kCells;
  std::vector<std::vector<int32_t>> rows;
  for (int64_t cell = 0; cell < kCells; ++cell)
    rows.emplace_back(all.begin() + cell * degree, all.begin() + (cell + 1) * degree);
  return Graph::from_rows(rows, kCells);
}

// Minimal puzzles, apart by their solved grids: those for testing have grids (there are 288) that
// no puzzle for training has.
struct Puzzles {
  std::vector<sudoku::GeneratedPuzzle> training, testing;

  explicit Puzzles(int64_t count) {
    for (const auto& puzzle : sudoku::generate({.geometry = kGeometry}, 0, count)) {
      uint32_t hash = 2166136261u;  // Fowler, Noll, Vo
      for (int cell = 0; cell < kCells; ++cell) hash = (hash ^ puzzle.solution[cell]) * 16777619u;
      (hash >> 16) % 4 == 0 ? testing.push_back(puzzle) : training.push_back(puzzle);
    }
  }
};

struct Batch {
  Tensor givens, solutions;  // [boards, cells]

  explicit Batch(std::span<const sudoku::GeneratedPuzzle> puzzles) {
    std::vector<int32_t> given, solved;
    for (const auto& puzzle : puzzles)
      for (int cell = 0; cell < kCells; ++cell) {
        given.push_back(puzzle.givens[cell]);
        solved.push_back(puzzle.solution[cell] - 1);
      }
    const auto boards = static_cast<int64_t>(puzzles.size());
    givens = Tensor::from(given, {boards, kCells});
    solutions = Tensor::from(solved, {boards, kCells});
  }
  void move_to(Device device) {
    givens = givens.to(device);
    solutions = solutions.to(device);
  }
};

// The share of boards with every cell right.
double accuracy(const RelationalNet& net, const Graph& graph, const Batch& batch, int steps) {
  const NoGrad none;
  const std::vector<float> logits = net(batch.givens, graph, steps).back().to_vector<float>();
  const std::vector<int32_t> solutions = batch.solutions.to_vector<int32_t>();
  const int64_t boards = batch.givens.dim(0);
  int64_t solved = 0;
  for (int64_t board = 0; board < boards; ++board) {
    bool right = true;
    for (int64_t cell = board * kCells; cell < (board + 1) * kCells; ++cell) {
      const float* digit = logits.data() + cell * kDigits;
      right &= std::max_element(digit, digit + kDigits) - digit == solutions[cell];
    }
    solved += right;
  }
  return static_cast<double>(solved) / static_cast<double>(boards);
}

optim::AdamWOptions training_options() {
  return {.learning_rate = 3e-3, .weight_decay = 1e-4, .clip_norm = 1.0};
}

// A minute is the bar; these steps take about five seconds of one core, on which they stay: the
// result is the same with more, and tests share their machine.
TEST(RelationalNet, SolvesUnseenBoardsAfterAMinute) {
  kernels::set_num_threads(1);
  const Puzzles puzzles(4000);
  ASSERT_GT(puzzles.testing.size(), 300u);
  const Batch testing(puzzles.testing);
  const Graph graph = board_graph();
  Philox random(1);
  RelationalNet net(kDigits, 32, random);
  optim::AdamW optimiser(parameters(net), training_options());
  std::vector<sudoku::GeneratedPuzzle> chosen(64);
  for (int step = 0; step < 300; ++step) {
    for (auto& puzzle : chosen)
      puzzle = puzzles.training[random.below(static_cast<uint32_t>(puzzles.training.size()))];
    const Batch batch(chosen);
    examples::train_step(net, optimiser, graph, batch.givens, batch.solutions, kSteps);
  }
  const double solved = accuracy(net, graph, testing, 2 * kSteps);
  kernels::set_num_threads(0);
  RecordProperty("solved", std::to_string(solved));
  EXPECT_GE(solved, 0.95);
}

TEST(RelationalNet, FirstStepsOnCudaAreThoseOnTheCpu) {
  if (!available(Device::cuda)) GTEST_SKIP() << "no CUDA device";
  const Puzzles puzzles(64);
  const std::span<const sudoku::GeneratedPuzzle> chosen(puzzles.training.data(), 8);
  std::vector<double> losses[2];
  std::vector<float> weights[2];
  for (const Device device : {Device::cpu, Device::cuda}) {
    Philox random(2);
    RelationalNet net(kDigits, 16, random);
    to_device(net, device);
    Batch batch(chosen);
    batch.move_to(device);
    const Graph graph = board_graph().to(device);
    optim::AdamW optimiser(parameters(net), training_options());
    const auto at = static_cast<size_t>(device);
    for (int step = 0; step < 5; ++step)
      losses[at].push_back(
          examples::train_step(net, optimiser, graph, batch.givens, batch.solutions, kSteps));
    weights[at] = net.message.weight.to_vector<float>();
  }
  for (size_t step = 0; step < losses[0].size(); ++step)
    EXPECT_NEAR(losses[1][step], losses[0][step], 1e-5 * losses[0][step]) << "step " << step;
  EXPECT_LT(losses[0].back(), losses[0].front());
  for (size_t k = 0; k < weights[0].size(); ++k)
    EXPECT_NEAR(weights[1][k], weights[0][k], 1e-4) << "weight " << k;
}

}  // namespace
}  // namespace stillpoint::test
