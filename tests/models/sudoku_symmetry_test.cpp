#include "models/sudoku/symmetry.h"

#include <gtest/gtest.h>

#include <numeric>
#include <set>
#include <vector>

#include "engine/error.h"
#include "engine/random.h"
#include "models/sudoku/generator.h"

namespace stillpoint::sudoku {
namespace {

Board mapped(const Board& board, auto&& from) {
  Board out{.geometry = board.geometry};
  for (int row = 0; row < 4; ++row)
    for (int column = 0; column < 4; ++column) out[4 * row + column] = board[from(row, column)];
  return out;
}

// Every kind of symmetry by itself, and one relabelling.
std::vector<Board> images(const Board& board) {
  const auto swapped = [](int line, int a, int b) { return line == a ? b : line == b ? a : line; };
  std::vector<Board> all = {mapped(board, [](int r, int c) { return 4 * c + r; }),
                            mapped(board, [](int r, int c) { return 4 * (r ^ 2) + c; }),
                            mapped(board, [](int r, int c) { return 4 * r + (c ^ 2); }),
                            mapped(board, [&](int r, int c) { return 4 * swapped(r, 0, 1) + c; }),
                            mapped(board, [&](int r, int c) { return 4 * swapped(r, 2, 3) + c; }),
                            mapped(board, [&](int r, int c) { return 4 * r + swapped(c, 0, 1); }),
                            mapped(board, [&](int r, int c) { return 4 * r + swapped(c, 2, 3); })};
  Board renamed = board;
  const uint8_t names[] = {0, 3, 1, 4, 2};
  for (int cell = 0; cell < 16; ++cell) renamed[cell] = names[board[cell]];
  all.push_back(renamed);
  return all;
}

TEST(Symmetry, ClassIsThatOfEveryImage) {
  for (const auto& made : generate({.geometry = {2}, .minimal_share = 0.5}, 0, 50)) {
    const uint64_t wanted = symmetry_class(made.givens);
    Board board = made.givens;
    Philox random(3);
    for (int k = 0; k < 20; ++k) {  // a walk through the orbit
      const auto all = images(board);
      for (const Board& image : all) EXPECT_EQ(symmetry_class(image), wanted);
      board = all[random.below(static_cast<uint32_t>(all.size()))];
    }
  }
}

// The 288 grids fall into two classes. Sloane's A109741.
TEST(Symmetry, GridsHaveTwoClasses) {
  std::set<uint64_t> classes;
  for (const PuzzleUse use : {PuzzleUse::training, PuzzleUse::evaluation})
    for (const auto& made : generate({.geometry = {2}, .use = use}, 0, 300))
      classes.insert(symmetry_class(made.solution));
  EXPECT_EQ(classes.size(), 2u);
}

TEST(Symmetry, OneClueMoreIsAnotherClass) {
  for (const auto& made : generate({.geometry = {2}}, 0, 50)) {
    Board more = made.givens;
    for (int cell = 0; cell < 16; ++cell)
      if (more[cell] == 0) more[cell] = made.solution[cell];
    EXPECT_NE(symmetry_class(more), symmetry_class(made.givens));
  }
}

TEST(Symmetry, KeepsTrainingAndEvaluationApart) {
  std::set<uint64_t> trained, evaluated;
  for (const auto& made : generate({.geometry = {2}, .minimal_share = 0.7}, 0, 2000))
    trained.insert(symmetry_class(made.givens));
  for (const double share : {0.0, 1.0}) {
    for (const auto& made :
         generate({.geometry = {2}, .use = PuzzleUse::evaluation, .minimal_share = share}, 0, 500))
      evaluated.insert(symmetry_class(made.givens));
  }
  for (const uint64_t one : evaluated) EXPECT_FALSE(trained.contains(one)) << one;
  EXPECT_GT(trained.size(), 100u);
  EXPECT_GT(evaluated.size(), 30u);
}

TEST(Symmetry, RefusesOtherSizes) {
  EXPECT_THROW((void)symmetry_class(Board{.geometry = {3}}), ShapeError);
}

}  // namespace
}  // namespace stillpoint::sudoku
