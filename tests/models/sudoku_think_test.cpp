#include "models/sudoku/think.h"

#include <gtest/gtest.h>

#include <vector>

#include "engine/autograd.h"
#include "engine/error.h"
#include "models/sudoku/generator.h"
#include "models/sudoku/trainer.h"

namespace stillpoint::sudoku {
namespace {

class Think : public testing::Test {
 protected:
  // Trained until it solves some of the puzzles, but not all, in few iterations.
  static void SetUpTestSuite() {
    trainer = new Trainer({.net = {.geometry = {2}, .channels = 8},
                           .carry = {.puzzles = {.geometry = {2}}, .boards = 16},
                           .learning_rate = 1e-2,
                           .warmup = 10});
    for (int k = 0; k < 50; ++k) trainer->step(0);
  }
  static void TearDownTestSuite() { delete trainer; }

  const Network& net() const { return trainer->net(); }

  static std::vector<Board> puzzles(int count) {
    std::vector<Board> boards;
    for (const auto& made : generate({.geometry = {2}, .use = PuzzleUse::evaluation}, 0, count)) {
      boards.push_back(made.givens);
    }
    return boards;
  }

  // All answers of one try, refined alone.
  std::vector<Answer> answers(const Board& givens, int64_t number, int attempt,
                              const ThinkOptions& o) const {
    const NoGrad no_grad;
    const Tensor x = net().encode(std::span(&givens, 1));
    Tensor h = start_try(net(), std::span(&number, 1), attempt, o.restarts);
    std::vector<Answer> all;
    for (int n = 0; n < o.iterations; ++n) {
      h = net().refine(h, x);
      all.push_back(read_answers(net().logits(h), std::span(&givens, 1))[0]);
    }
    return all;
  }

  static inline Trainer* trainer = nullptr;
};

TEST_F(Think, StopsAtTheFirstValidAnswerOrPicksAmongTheLastOnes) {
  const std::vector<Board> boards = puzzles(30);
  const ThinkOptions options{
      .iterations = 5, .restarts = {.tries = 3, .seed = 9, .deviation = 2}, .first_number = 100};
  const std::vector<Thought> thoughts = think(net(), boards, options);
  ASSERT_EQ(thoughts.size(), boards.size());
  int valid = 0;
  for (size_t b = 0; b < boards.size(); ++b) {
    Thought wanted;
    for (int attempt = 0; attempt < 3 && !wanted.answer.valid; ++attempt) {
      const auto all = answers(boards[b], 100 + static_cast<int64_t>(b), attempt, options);
      int n = 0;
      while (n < 4 && !all[static_cast<size_t>(n)].valid) ++n;
      const Answer& answer = all[static_cast<size_t>(n)];
      if (attempt == 0 || better(answer, wanted.answer)) wanted = {answer, attempt, n + 1};
    }
    EXPECT_EQ(thoughts[b].answer.board, wanted.answer.board) << b;
    EXPECT_EQ(thoughts[b].answer.valid, wanted.answer.valid) << b;
    EXPECT_EQ(thoughts[b].attempt, wanted.attempt) << b;
    EXPECT_EQ(thoughts[b].iterations, wanted.iterations) << b;
    EXPECT_NEAR(thoughts[b].answer.certainty, wanted.answer.certainty, 1e-5) << b;
    EXPECT_EQ(thoughts[b].answer.valid, solves(thoughts[b].answer.board, boards[b])) << b;
    valid += thoughts[b].answer.valid;
  }
  EXPECT_GT(valid, 0);
  EXPECT_LT(valid, 30);
}

TEST_F(Think, TheObserverSeesEveryIterationAndMayStop) {
  const std::vector<Board> boards = puzzles(1);
  std::vector<int> seen;
  ThinkOptions options{.iterations = 40, .linger = 3};
  options.observe = [&](const ThinkStep& step) {
    seen.push_back(step.iteration);
    return true;
  };
  const Thought thought = think(net(), boards, options)[0];
  ASSERT_TRUE(thought.answer.valid);
  options.linger = 0;
  options.observe = {};
  const int first = think(net(), boards, options)[0].iterations;
  ASSERT_EQ(static_cast<int>(seen.size()), first + 3);
  for (int n = 0; n < first + 3; ++n) EXPECT_EQ(seen[static_cast<size_t>(n)], n + 1);

  options.observe = [](const ThinkStep& step) { return step.iteration < 2; };
  const Thought stopped = think(net(), boards, options)[0];
  EXPECT_EQ(stopped.iterations, 0);
  EXPECT_FALSE(stopped.answer.valid);
}

TEST_F(Think, RefusesWhatItCannotDo) {
  const std::vector<Board> boards = puzzles(1);
  EXPECT_THROW(think(net(), boards, {.iterations = 0}), OptionError);
  EXPECT_THROW(think(net(), boards, {.linger = -1}), OptionError);
  EXPECT_THROW(think(net(), boards, {.restarts = {.tries = 0}}), OptionError);
  EXPECT_THROW(think(net(), std::vector<Board>{Board{}}), ShapeError);
  EXPECT_TRUE(think(net(), {}).empty());
}

}  // namespace
}  // namespace stillpoint::sudoku
