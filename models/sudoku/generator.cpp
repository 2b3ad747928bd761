#include "models/sudoku/generator.h"

#include <algorithm>
#include <numeric>

#include "engine/error.h"
#include "engine/random.h"
#include "kernels/common/parallel.h"
#include "models/sudoku/solver.h"
#include "models/sudoku/symmetry.h"

namespace stillpoint::sudoku {
namespace {

template <class Container>
void shuffle(Container& items, Philox& random) {
  for (size_t k = items.size(); k > 1; --k) {
    std::swap(items[k - 1], items[random.below(static_cast<uint32_t>(k))]);
  }
}

std::vector<int> shuffled(int n, int first, Philox& random) {
  std::vector<int> items(static_cast<size_t>(n));
  std::iota(items.begin(), items.end(), first);
  shuffle(items, random);
  return items;
}

Board solved_grid(Geometry geometry, Philox& random) {
  // A 16x16 search sometimes loses its way for hours; a fresh start finds a grid in milliseconds.
  constexpr int64_t kNodesPerTry = 2000;
  for (;;) {
    Board board{.geometry = geometry};
    for (int b = 0; b < geometry.box; ++b) {
      const std::vector<int> values = shuffled(geometry.side(), 1, random);
      for (int k = 0; k < geometry.side(); ++k) {
        const int row = b * geometry.box + k / geometry.box;
        const int column = b * geometry.box + k % geometry.box;
        board[row * geometry.side() + column] = static_cast<uint8_t>(values[k]);
      }
    }
    const SolveReport report =
        solve(board, {.max_solutions = 1, .max_nodes = kNodesPerTry, .random = &random});
    if (report.solutions == 1) return report.solution;
  }
}

// Whether the puzzle without the given in this cell would still have one solution.
bool spare(const Board& givens, int cell) {
  constexpr int64_t kNodes16 = 20;
  Board fewer = givens;
  fewer[cell] = 0;
  SolveOptions options{.max_solutions = 1, .forbidden_cell = cell, .forbidden_value = givens[cell]};
  if (givens.geometry.box > 3) options.max_nodes = kNodes16;
  const SolveReport report = solve(fewer, options);
  return report.solutions == 0 && report.complete;
}

Board minimal_puzzle(const Board& solution, Philox& random) {
  Board givens = solution;
  for (const int cell : shuffled(solution.geometry.cells(), 0, random)) {
    if (spare(givens, cell)) givens[cell] = 0;
  }
  return givens;
}

void put_back(Board& givens, const Board& solution, int count, Philox& random) {
  for (const int cell : shuffled(solution.geometry.cells(), 0, random)) {
    if (count == 0) return;
    if (givens[cell] != 0) continue;
    givens[cell] = solution[cell];
    --count;
  }
}

void check_options(const GeneratorOptions& options, int64_t index) {
  const int box = options.geometry.box;
  check<ShapeError>(box >= kMinBox && box <= kMaxBox, "generate: box size {}; wanted {} to {}", box,
                    kMinBox, kMaxBox);
  check<OptionError>(options.minimal_share >= 0 && options.minimal_share <= 1,
                     "generate: minimal_share {}; wanted 0 to 1", options.minimal_share);
  check<OptionError>(index >= 0, "generate: puzzle number {}; wanted 0 or more", index);
  check<OptionError>(options.most_extra >= 0 && options.most_extra <= kMaxCells,
                     "generate: most_extra {}; wanted 0 to {}", options.most_extra, kMaxCells);
}

// A quarter of the classes of 4x4 puzzles is for evaluation.
bool meant_for(PuzzleUse use, const Board& givens) {
  if (givens.geometry.box > 2) return true;
  const uint32_t word = kernels::philox4x32_10(0, symmetry_class(givens), 0).v[0];
  return (word % 4 == 0) == (use == PuzzleUse::evaluation);
}

GeneratedPuzzle draw(const GeneratorOptions& options, Philox& random) {
  GeneratedPuzzle puzzle;
  puzzle.solution = solved_grid(options.geometry, random);
  puzzle.givens = minimal_puzzle(puzzle.solution, random);
  if (random.uniform() >= options.minimal_share) {
    puzzle.kind = PuzzleKind::ordinary;
    const auto extra = random.below(static_cast<uint32_t>(options.most_extra + 1));
    put_back(puzzle.givens, puzzle.solution, static_cast<int>(extra), random);
  }
  return puzzle;
}

}  // namespace

GeneratedPuzzle generate(const GeneratorOptions& options, int64_t index) {
  check_options(options, index);
  const uint64_t half = options.use == PuzzleUse::training ? 0 : uint64_t{1} << 63;
  Philox random(options.seed, half + static_cast<uint64_t>(index));
  GeneratedPuzzle puzzle = draw(options, random);
  while (!meant_for(options.use, puzzle.givens)) puzzle = draw(options, random);
  return puzzle;
}

std::vector<GeneratedPuzzle> generate(const GeneratorOptions& options, int64_t begin,
                                      int64_t count) {
  check_options(options, begin);
  check<OptionError>(count >= 0, "generate: {} puzzles; wanted 0 or more", count);
  std::vector<GeneratedPuzzle> puzzles(static_cast<size_t>(count));
  kernels::parallel_for(count, 1, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) {
      puzzles[static_cast<size_t>(i)] = generate(options, begin + i);
    }
  });
  return puzzles;
}

}  // namespace stillpoint::sudoku
