#include "models/sudoku/solver.h"

#include <gtest/gtest.h>

#include <set>
#include <string>

#include "engine/error.h"
#include "models/sudoku/board.h"
#include "models/sudoku/generator.h"
#include "models/sudoku/puzzle_text.h"

namespace stillpoint::sudoku {
namespace {

// The definition, cell by cell: no propagation, nothing shared with the solver.
int count_by_trying(Board& board, int cell, int limit) {
  const Geometry g = board.geometry;
  while (cell < g.cells() && board[cell] != 0) ++cell;
  if (cell == g.cells()) return 1;
  int found = 0;
  for (int value = 1; value <= g.side() && found < limit; ++value) {
    board[cell] = static_cast<uint8_t>(value);
    if (!find_conflict(board)) found += count_by_trying(board, cell + 1, limit - found);
  }
  board[cell] = 0;
  return found;
}

Board blank(int box) { return Board{.geometry = {box}}; }

TEST(Board, PeersAreTheOtherCellsOfTheThreeUnits) {
  for (const auto& [box, count] : {std::pair{2, 7}, {3, 20}, {4, 39}}) {
    const Geometry g{box};
    const auto list = peers(g);
    ASSERT_EQ(list.size(), static_cast<size_t>(g.cells() * count));
    for (int cell = 0; cell < g.cells(); ++cell) {
      const std::set<int> mine(list.begin() + cell * count, list.begin() + (cell + 1) * count);
      EXPECT_EQ(mine.size(), static_cast<size_t>(count));
      EXPECT_FALSE(mine.contains(cell));
      for (const int other : mine) EXPECT_TRUE(g.same_unit(cell, other));
    }
  }
  EXPECT_EQ((Geometry{3}.block(80)), 8);
  EXPECT_EQ((Geometry{3}.block(30)), 4);
}

TEST(Board, ConflictsAreFoundInEveryKindOfUnit) {
  for (const auto& [a, b] : {std::pair{0, 8}, {0, 72}, {0, 20}}) {
    Board board = blank(3);
    board[a] = board[b] = 7;
    const auto conflict = find_conflict(board);
    ASSERT_TRUE(conflict);
    EXPECT_EQ(conflict->first, a);
    EXPECT_EQ(conflict->second, b);
  }
  Board apart = blank(3);
  apart[0] = apart[12] = 7;
  EXPECT_FALSE(find_conflict(apart));
  EXPECT_FALSE(is_solved(apart));
}

TEST(Solver, EmptyBoardsHaveMoreThanOneSolution) {
  for (const int box : {2, 3, 4}) {
    const SolveReport report = solve(blank(box));
    EXPECT_EQ(report.solutions, 2);
    EXPECT_TRUE(is_solved(report.solution));
  }
}

TEST(Solver, CountsAllGridsOf4x4) {
  EXPECT_EQ(solve(blank(2), {.max_solutions = 1000}).solutions, 288);
}

TEST(Solver, AgreesWithTryingEverythingOnEveryFillingOfSixCells) {
  // Six fixed cells, every way to fill them, contradictory ones included.
  const int cells[] = {0, 2, 5, 8, 11, 15};
  int unique = 0, impossible = 0;
  for (int code = 0; code < 4096; ++code) {
    Board board = blank(2);
    for (int k = 0; k < 6; ++k) board[cells[k]] = static_cast<uint8_t>(1 + (code >> 2 * k & 3));
    Board copy = board;
    const int wanted = find_conflict(board) ? 0 : count_by_trying(copy, 0, 2);
    const SolveReport report = solve(board);
    ASSERT_EQ(report.solutions, wanted) << to_string(board);
    EXPECT_TRUE(report.complete);
    unique += wanted == 1;
    impossible += wanted == 0;
  }
  EXPECT_GT(unique, 0);
  EXPECT_GT(impossible, 0);
}

TEST(Solver, FindsTheContradictionOfTwoCellsThatNeedTheSameValue) {
  Board board = blank(3);
  for (int k = 0; k < 8; ++k) board[k] = static_cast<uint8_t>(k + 1);  // leaves 9 for cell 8
  board[17] = 9;                                                       // in the same column and box
  EXPECT_EQ(solve(board).solutions, 0);
}

TEST(Solver, Solves9x9PuzzlesThatNeedGuesses) {
  int64_t nodes = 0;
  for (const auto& puzzle : generate({.seed = 2}, 0, 100)) {
    const SolveReport report = solve(puzzle.givens);
    ASSERT_TRUE(report.unique());
    EXPECT_TRUE(is_solved(report.solution));
    for (int cell = 0; cell < 81; ++cell) {
      const bool kept = puzzle.givens[cell] == 0 || puzzle.givens[cell] == report.solution[cell];
      EXPECT_TRUE(kept) << cell;
    }
    nodes += report.nodes;
  }
  EXPECT_GT(nodes, 0);
}

TEST(Solver, ForbiddenValueExcludesTheSolutionsThatHaveIt) {
  const SolveReport all = solve(blank(2), {.max_solutions = 1000});
  int without = 0;
  for (int value = 1; value <= 4; ++value) {
    const SolveReport some =
        solve(blank(2), {.max_solutions = 1000, .forbidden_cell = 6, .forbidden_value = value});
    EXPECT_NE(some.solution[6], value);
    without += some.solutions;
  }
  EXPECT_EQ(without, 3 * all.solutions);  // each grid is excluded by exactly one of the four values
}

TEST(Solver, SaysWhenItGaveUp) {
  const SolveReport report = solve(blank(4), {.max_nodes = 3});
  EXPECT_FALSE(report.complete);
  EXPECT_EQ(report.nodes, 3);
  EXPECT_FALSE(report.unique());
}

TEST(Solver, RandomGuessesFollowTheGeneratorAlone) {
  Philox a(5, 1), b(5, 1), c(6, 1);
  const Board first = solve(blank(3), {.max_solutions = 1, .random = &a}).solution;
  EXPECT_EQ(first, solve(blank(3), {.max_solutions = 1, .random = &b}).solution);
  EXPECT_NE(first, solve(blank(3), {.max_solutions = 1, .random = &c}).solution);
}

TEST(Solver, OneSolutionIsNotTheOnlyOneIfItLooksForNoOther) {
  const SolveReport first = solve(blank(2), {.max_solutions = 1});
  EXPECT_EQ(first.solutions, 1);
  EXPECT_FALSE(first.complete);
  EXPECT_FALSE(first.unique());
  EXPECT_FALSE(solve(blank(2)).complete);  // stopped at two
  EXPECT_TRUE(solve(blank(2), {.max_solutions = 288}).complete);
}

TEST(Solver, RefusesBoardsThatAreNone) {
  EXPECT_THROW(solve(blank(1)), Error);
  EXPECT_THROW(solve(blank(5)), Error);
  Board board = blank(2);
  board[3] = 5;
  EXPECT_THROW(solve(board), Error);
  EXPECT_THROW(solve(blank(2), {.forbidden_cell = 16, .forbidden_value = 1}), Error);
  EXPECT_THROW(solve(blank(2), {.forbidden_cell = 1, .forbidden_value = 0}), Error);
  EXPECT_THROW(solve(blank(2), {.max_solutions = 0}), Error);
}

}  // namespace
}  // namespace stillpoint::sudoku
