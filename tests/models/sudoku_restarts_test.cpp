#include "models/sudoku/restarts.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <memory>
#include <vector>

#include "engine/autograd.h"
#include "engine/error.h"
#include "kernels/common/parallel.h"
#include "models/sudoku/answer.h"
#include "models/sudoku/evaluate.h"
#include "models/sudoku/generator.h"
#include "models/sudoku/trainer.h"

namespace stillpoint::sudoku {
namespace {

std::unique_ptr<Network> untrained() {
  Philox random(1);
  return make_network({.geometry = {2}, .channels = 8}, random);
}

std::vector<float> start(const Network& net, const std::vector<int64_t>& puzzles, int attempt,
                         uint64_t seed = 1) {
  const NoGrad no_grad;
  return start_try(net, puzzles, attempt, {.tries = 100, .seed = seed}).to_vector<float>();
}

TEST(Restarts, TheFirstTryIsTheNetworksOwnStart) {
  const auto net = untrained();
  EXPECT_EQ(start(*net, {5, 9}, 0), net->start(2).to_vector<float>());
}

TEST(Restarts, TheNoiseHasTheDeviationAskedFor) {
  const auto net = untrained();
  const std::vector<float> own = net->start(1).to_vector<float>();
  double sum = 0, squares = 0;
  int64_t n = 0;
  for (int attempt = 1; attempt < 40; ++attempt) {
    const std::vector<float> noisy = start(*net, {3}, attempt);
    for (size_t k = 0; k < own.size(); ++k, ++n) {
      const double noise = double{noisy[k]} - double{own[k]};
      sum += noise;
      squares += noise * noise;
    }
  }
  // Five standard errors.
  const auto count = static_cast<double>(n);
  EXPECT_NEAR(sum / count, 0, 5 * 0.5 / std::sqrt(count));
  EXPECT_NEAR(std::sqrt(squares / count), 0.5, 5 * 0.5 / std::sqrt(2 * count));
}

TEST(Restarts, NoiseDependsOnSeedPuzzleAndTryAlone) {
  const auto net = untrained();
  const std::vector<float> alone = start(*net, {9}, 2);
  const std::vector<float> among = start(*net, {5, 9, 4}, 2);
  const auto size = static_cast<std::ptrdiff_t>(alone.size());
  EXPECT_EQ(alone, std::vector<float>(among.begin() + size, among.begin() + 2 * size));
  EXPECT_NE(alone, start(*net, {9}, 3));
  EXPECT_NE(alone, start(*net, {8}, 2));
  EXPECT_NE(alone, start(*net, {9}, 2, 7));
  for (const int threads : {1, 3}) {
    kernels::set_num_threads(threads);
    EXPECT_EQ(start(*net, {9}, 2), alone);
  }
  kernels::set_num_threads(0);
}

TEST(Restarts, EvaluationPicksTheBetterAnswerOfTheTries) {
  // Trained too little to be right at once, and started far away, so that tries differ.
  Trainer trainer({.net = {.geometry = {2}, .channels = 8},
                   .carry = {.puzzles = {.geometry = {2}}, .boards = 16},
                   .learning_rate = 1e-2,
                   .warmup = 10});
  for (int k = 0; k < 50; ++k) trainer.step(0);
  const Network& net = trainer.net();
  std::vector<Puzzle> puzzles;
  for (const auto& made : generate({.geometry = {2}, .use = PuzzleUse::evaluation}, 0, 40)) {
    puzzles.push_back({made.givens, made.solution});
  }
  const std::vector<int> iterations = {4, 6};
  const RestartOptions restarts{.tries = 8, .seed = 3, .deviation = 1};
  const NoGrad no_grad;
  // By hand: every try in full, then the best of them.
  int64_t right[2] = {}, cells[2] = {};
  for (int64_t p = 0; p < 40; ++p) {
    const Puzzle& puzzle = puzzles[static_cast<size_t>(p)];
    std::vector<Answer> picked(2);
    for (int attempt = 0; attempt < restarts.tries; ++attempt) {
      const Tensor x = net.encode(std::span(&puzzle.givens, 1));
      Tensor h = start_try(net, std::span(&p, 1), attempt, restarts);
      for (int n = 1; n <= 6; ++n) {
        h = net.refine(h, x);
        if (n != 4 && n != 6) continue;
        const Answer answer = read_answers(net.logits(h), std::span(&puzzle.givens, 1))[0];
        Answer& best = picked[n == 6];
        if (attempt == 0 || better(answer, best)) best = answer;
      }
    }
    for (int k = 0; k < 2; ++k) {
      const Board& board = picked[static_cast<size_t>(k)].board;
      right[k] += board == *puzzle.solution;
      for (int cell = 0; cell < 16; ++cell) cells[k] += board[cell] == (*puzzle.solution)[cell];
    }
  }
  const auto many =
      evaluate(net, puzzles, {.iterations = iterations, .batch = 7, .restarts = restarts});
  const auto once = evaluate(net, puzzles, {.iterations = iterations});
  for (size_t k = 0; k < 2; ++k) {
    EXPECT_EQ(many.results[k].boards.value, static_cast<double>(right[k]) / 40) << iterations[k];
    EXPECT_EQ(many.results[k].cells, static_cast<double>(cells[k]) / 640) << iterations[k];
    EXPECT_GE(many.results[k].boards.value, once.results[k].boards.value);
  }
  EXPECT_LT(once.results[0].boards.value, 1);
  EXPECT_NE(many.results[0].cells, once.results[0].cells);
}

TEST(Restarts, KeepsTheStatesOfSomeBoards) {
  const Tensor states =
      Tensor::from(std::vector<float>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}, {3, 2, 2});
  const Tensor kept = keep_boards(states, {2, 0});
  EXPECT_EQ(kept.shape(), (Shape{2, 2, 2}));
  EXPECT_EQ(kept.to_vector<float>(), (std::vector<float>{8, 9, 10, 11, 0, 1, 2, 3}));
  EXPECT_THROW(keep_boards(states, {}), OptionError);
}

TEST(Restarts, RefusesWhatItCannotNumber) {
  const auto net = untrained();
  const std::vector<int64_t> first = {0}, negative = {-1};
  EXPECT_THROW(start_try(*net, first, 0, {.tries = 0}), OptionError);
  EXPECT_THROW(start_try(*net, first, 2, {.tries = 2}), OptionError);
  EXPECT_THROW(start_try(*net, negative, 1, {.tries = 2}), OptionError);
  for (const double deviation : {-0.5, std::numeric_limits<double>::quiet_NaN()}) {
    EXPECT_THROW(start_try(*net, first, 0, {.deviation = deviation}), OptionError);
  }
  EXPECT_THROW(evaluate(*net, {}, {.restarts = {.tries = 0}}), OptionError);
}

}  // namespace
}  // namespace stillpoint::sudoku
