#include "models/sudoku/generator.h"

#include <gtest/gtest.h>

#include <array>
#include <set>
#include <string>

#include "engine/error.h"
#include "kernels/common/parallel.h"
#include "models/sudoku/puzzle_text.h"
#include "models/sudoku/solver.h"

namespace stillpoint::sudoku {
namespace {

bool is_minimal(const Board& givens) {
  for (int cell = 0; cell < givens.geometry.cells(); ++cell) {
    if (givens[cell] == 0) continue;
    Board fewer = givens;
    fewer[cell] = 0;
    if (solve(fewer).solutions == 1) return false;
  }
  return true;
}

void expect_proper(const GeneratedPuzzle& puzzle) {
  EXPECT_TRUE(is_solved(puzzle.solution));
  const SolveReport report = solve(puzzle.givens);
  EXPECT_TRUE(report.unique());
  EXPECT_EQ(report.solution, puzzle.solution);
}

TEST(Generator, MinimalPuzzlesHaveOneSolutionAndNoGivenToSpare) {
  for (const int box : {2, 3}) {
    for (const auto& puzzle : generate({.geometry = {box}, .seed = 3}, 0, 50)) {
      EXPECT_EQ(puzzle.kind, PuzzleKind::minimal);
      expect_proper(puzzle);
      EXPECT_TRUE(is_minimal(puzzle.givens)) << to_string(puzzle.givens);
    }
  }
}

TEST(Generator, OrdinaryPuzzlesHaveOneSolutionAndSomeGivensMore) {
  std::set<int> givens;
  for (const auto& puzzle : generate({.seed = 4, .minimal_share = 0, .most_extra = 30}, 0, 200)) {
    EXPECT_EQ(puzzle.kind, PuzzleKind::ordinary);
    expect_proper(puzzle);
    givens.insert(puzzle.givens.givens());
  }
  EXPECT_LE(*givens.begin(), 28);
  EXPECT_GE(*givens.rbegin(), 48);
  EXPECT_GE(givens.size(), 20u);
}

TEST(Generator, SharesAreThoseAskedFor) {
  int minimal = 0;
  const auto puzzles = generate({.geometry = {2}, .seed = 5, .minimal_share = 0.7}, 0, 2000);
  for (const auto& puzzle : puzzles) minimal += puzzle.kind == PuzzleKind::minimal;
  EXPECT_NEAR(minimal, 1400, 82);  // four standard deviations
}

TEST(Generator, HardPuzzlesAreMinimalAndTakeMoreAndMoreGuesses) {
  const auto climbs = generate({.seed = 3, .hard_share = 1}, 0, 32);
  std::set<std::string> solutions;
  for (const auto& puzzle : climbs) {
    EXPECT_EQ(puzzle.kind, PuzzleKind::hard);
    expect_proper(puzzle);
    EXPECT_TRUE(is_minimal(puzzle.givens)) << to_string(puzzle.givens);
    solutions.insert(to_string(puzzle.solution));
  }
  EXPECT_EQ(solutions.size(), 2u);
  const auto guesses = [&](size_t k) { return solve(climbs[k].givens).nodes; };
  for (size_t k = 1; k < 16; ++k) {
    EXPECT_GE(guesses(k), guesses(k - 1));
    EXPECT_GE(guesses(16 + k), guesses(16 + k - 1));
  }
  // 4,096 puzzles of seed 3 that are minimal and no more take 78 at most, and 4 in the mean.
  EXPECT_GT(guesses(15), 78);
  EXPECT_GT(guesses(31), 78);
}

TEST(Generator, HardPuzzlesAreSpreadEvenly) {
  const auto puzzles = generate({.seed = 3, .hard_share = 0.3, .minimal_share = 0}, 7, 10);
  const GeneratorOptions none{.seed = 3, .minimal_share = 0};
  for (size_t k = 0; k < puzzles.size(); ++k) {
    const auto index = static_cast<int64_t>(7 + k);
    const bool hard = index == 9 || index == 13 || index == 16;  // 0.3 of 10 is 3, of 14 4.2
    EXPECT_EQ(puzzles[k].kind, hard ? PuzzleKind::hard : PuzzleKind::ordinary) << index;
    if (!hard) {
      EXPECT_EQ(puzzles[k].givens, generate(none, index).givens);
    }
  }
}

TEST(Generator, ListsNeedNoOrder) {
  const GeneratorOptions options{.seed = 3, .hard_share = 0.5, .minimal_share = 0.5};
  const std::vector<int64_t> indices{35, 3, 4, 1, 3, 33};  // 1, 3 of one climb, 33, 35 of another
  const auto puzzles = generate(options, indices);
  ASSERT_EQ(puzzles.size(), indices.size());
  for (size_t k = 0; k < indices.size(); ++k) {
    EXPECT_EQ(puzzles[k].givens, generate(options, indices[k]).givens) << k;
  }
  EXPECT_TRUE(generate(options, std::vector<int64_t>()).empty());
  EXPECT_THROW(generate(options, std::vector<int64_t>{-1}), Error);
}

TEST(Generator, MakesA16x16Puzzle) { expect_proper(generate({.geometry = {4}, .seed = 6}, 0)); }

TEST(Generator, PuzzleIsTheSameAtAnyThreadCountAndInAnySlice) {
  const GeneratorOptions options{.seed = 7, .hard_share = 0.4, .minimal_share = 0.5};
  const auto alone = generate(options, 13);
  for (const int threads : {1, 2, 3}) {
    kernels::set_num_threads(threads);
    const auto many = generate(options, 10, 8);
    for (int64_t k = 0; k < 8; ++k) {
      EXPECT_EQ(many[static_cast<size_t>(k)].givens, generate(options, 10 + k).givens);
    }
    EXPECT_EQ(many[3].givens, alone.givens);
    EXPECT_EQ(many[3].solution, alone.solution);
    EXPECT_EQ(many[3].kind, alone.kind);
    EXPECT_NE(many[2].solution, alone.solution);
  }
  kernels::set_num_threads(0);
  EXPECT_NE(generate({.seed = 8, .hard_share = 0.4, .minimal_share = 0.5}, 13).solution,
            alone.solution);
}

TEST(Generator, EvaluationPuzzlesAreOthersThanThoseOfTraining) {
  std::set<std::string> training;
  for (const double hard : {0.0, 1.0}) {
    const auto made = [&](PuzzleUse use) {
      return generate({.seed = 1, .use = use, .hard_share = hard}, 0, 32);
    };
    for (const auto& p : made(PuzzleUse::training)) training.insert(to_string(p.givens));
    for (const auto& p : made(PuzzleUse::evaluation)) {
      EXPECT_FALSE(training.contains(to_string(p.givens)));
    }
  }
}

TEST(Generator, NoValueIsPreferredAnywhere) {
  // A cell off the diagonal boxes, filled by the search: chi-square with 8 degrees of freedom.
  constexpr int kPuzzles = 4500;
  std::array<int, 10> seen{};
  for (const auto& puzzle : generate({.seed = 9, .minimal_share = 0}, 0, kPuzzles)) {
    ++seen[puzzle.solution[5]];
  }
  double chi2 = 0;
  for (int value = 1; value <= 9; ++value) {
    const double wanted = kPuzzles / 9.0;
    chi2 += (seen[value] - wanted) * (seen[value] - wanted) / wanted;
  }
  EXPECT_LT(chi2, 26.1);  // exceeded once in a thousand seeds
}

TEST(Generator, RefusesOptionsThatMeanNothing) {
  EXPECT_THROW(generate({.minimal_share = 1.5}, 0), Error);
  EXPECT_THROW(generate({.hard_share = -0.1}, 0), Error);
  EXPECT_THROW(generate({.geometry = {2}, .hard_share = 0.5}, 0), Error);
  EXPECT_THROW(generate({.most_extra = -1}, 0), Error);
  EXPECT_THROW(generate({.geometry = {7}}, 0), Error);
  EXPECT_THROW(generate({}, 0, -1), Error);
  EXPECT_THROW(generate({}, -1), Error);
}

}  // namespace
}  // namespace stillpoint::sudoku
