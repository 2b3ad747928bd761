#include "models/sudoku/answer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "engine/error.h"
#include "models/sudoku/puzzle_text.h"

namespace stillpoint::sudoku {
namespace {

Board board(const char* text) { return parse_puzzle(text).givens; }

// Logits whose likeliest digits are those of the board, each with this logit against zeros.
Tensor logits_of(const Board& likeliest, float logit) {
  const Geometry g = likeliest.geometry;
  std::vector<float> values(static_cast<size_t>(g.cells()) * static_cast<size_t>(g.side()));
  for (int cell = 0; cell < g.cells(); ++cell) {
    values[static_cast<size_t>(cell * g.side() + likeliest[cell] - 1)] = logit;
  }
  return Tensor::from(values, {1, g.cells(), g.side()});
}

TEST(Solves, WantsACompleteBoardThatKeepsTheGivens) {
  const Board solved = board("1234341221434321");
  EXPECT_TRUE(solves(solved, board("1...3...........")));
  EXPECT_TRUE(solves(solved, solved));
  EXPECT_FALSE(solves(solved, board("2...............")));
  EXPECT_FALSE(solves(board("123434122143432."), board("1...3...........")));
  Board conflict = solved;
  conflict[15] = 2;
  EXPECT_FALSE(solves(conflict, board("1...3...........")));
  EXPECT_FALSE(solves(solved, Board{}));  // 9x9
}

TEST(ReadAnswers, GivesTheLikeliestDigitsAndTheirProbability) {
  const Board solved = board("1234341221434321");
  const Board givens = board("1...3...........");
  const auto answers = read_answers(logits_of(solved, std::log(9.0f)), std::span(&givens, 1));
  ASSERT_EQ(answers.size(), 1u);
  EXPECT_EQ(answers[0].board, solved);
  EXPECT_TRUE(answers[0].valid);
  ASSERT_EQ(answers[0].certain.size(), 16u);
  for (const float p : answers[0].certain) EXPECT_NEAR(p, 0.75, 1e-6);  // 9 / (9 + 3)
  EXPECT_NEAR(answers[0].certainty, 0.75, 1e-6);
}

TEST(ReadAnswers, TakesTheFirstOfEquals) {
  const Board givens = board("1...3...........");
  const Answer answer = read_answers(Tensor::zeros({1, 16, 4}), std::span(&givens, 1))[0];
  for (int cell = 0; cell < 16; ++cell) EXPECT_EQ(answer.board[cell], 1);
  EXPECT_FALSE(answer.valid);
}

TEST(ReadAnswers, LargeLogitsDoNotOverflow) {
  const Board solved = board("1234341221434321");
  const auto answers = read_answers(logits_of(solved, 3e38f), std::span(&solved, 1));
  EXPECT_EQ(answers[0].certainty, 1);
}

TEST(ReadAnswers, RefusesWhatDoesNotFit) {
  const std::vector<Board> mixed = {board("1..............."), Board{}};
  EXPECT_THROW(read_answers(Tensor::zeros({1, 16, 4}), mixed), ShapeError);
  EXPECT_THROW(read_answers(Tensor::zeros({2, 16, 4}), mixed), ShapeError);
  EXPECT_TRUE(read_answers({}, {}).empty());
}

TEST(Better, PrefersAValidAnswerThenTheCertainOne) {
  Answer sure, unsure, valid;
  sure.certainty = 0.9;
  unsure.certainty = 0.2;
  valid.certainty = 0.3;
  valid.valid = true;
  EXPECT_TRUE(better(sure, unsure));
  EXPECT_FALSE(better(unsure, sure));
  EXPECT_TRUE(better(valid, sure));
  EXPECT_FALSE(better(sure, valid));
  EXPECT_FALSE(better(sure, sure));
}

}  // namespace
}  // namespace stillpoint::sudoku
