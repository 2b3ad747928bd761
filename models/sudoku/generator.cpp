#include "models/sudoku/generator.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <optional>
#include <utility>

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

// Takes givens away, in this order of cells, while the solution stays the only one.
void minimise(Board& givens, const std::vector<int>& cells) {
  for (const int cell : cells) {
    if (givens[cell] != 0 && spare(givens, cell)) givens[cell] = 0;
  }
}

// The cells of the givens put back.
std::vector<int> put_back(Board& givens, const Board& solution, int count, Philox& random) {
  std::vector<int> cells;
  for (const int cell : shuffled(solution.geometry.cells(), 0, random)) {
    if (std::ssize(cells) == count) break;
    if (givens[cell] != 0) continue;
    givens[cell] = solution[cell];
    cells.push_back(cell);
  }
  return cells;
}

void check_options(const GeneratorOptions& options, int64_t index) {
  const int box = options.geometry.box;
  check<ShapeError>(box >= kMinBox && box <= kMaxBox, "generate: box size {}; wanted {} to {}", box,
                    kMinBox, kMaxBox);
  check<OptionError>(options.minimal_share >= 0 && options.minimal_share <= 1,
                     "generate: minimal_share {}; wanted 0 to 1", options.minimal_share);
  check<OptionError>(options.hard_share >= 0 && options.hard_share <= 1,
                     "generate: hard_share {}; wanted 0 to 1", options.hard_share);
  check<OptionError>(options.hard_share == 0 || box == 3,
                     "generate: hard puzzles of box size {}; wanted 3", box);
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

GeneratedPuzzle minimal_puzzle(Geometry geometry, Philox& random) {
  GeneratedPuzzle puzzle;
  puzzle.solution = puzzle.givens = solved_grid(geometry, random);
  minimise(puzzle.givens, shuffled(geometry.cells(), 0, random));
  return puzzle;
}

GeneratedPuzzle draw(const GeneratorOptions& options, Philox& random) {
  GeneratedPuzzle puzzle = minimal_puzzle(options.geometry, random);
  if (random.uniform() >= options.minimal_share) {
    puzzle.kind = PuzzleKind::ordinary;
    const auto extra = random.below(static_cast<uint32_t>(options.most_extra + 1));
    put_back(puzzle.givens, puzzle.solution, static_cast<int>(extra), random);
  }
  return puzzle;
}

uint64_t first_stream(PuzzleUse use) { return use == PuzzleUse::training ? 0 : uint64_t{1} << 63; }

class Climb {
 public:
  static constexpr int64_t kPuzzles = 16;

  Climb(const GeneratorOptions& options, int64_t number)
      : random_(options.seed, first_stream(options.use) + kStreams + static_cast<uint64_t>(number)),
        puzzle_(minimal_puzzle(options.geometry, random_)),
        guesses_(solve(puzzle_.givens).nodes) {
    puzzle_.kind = PuzzleKind::hard;
  }

  // Puzzle number k, which must not lie before the last one asked for.
  const GeneratedPuzzle& reach(int64_t k) {
    for (; moves_ < kMoves * (k + 1); ++moves_) move();
    return puzzle_;
  }

 private:
  static constexpr uint64_t kStreams = uint64_t{1} << 61;  // far from those of the other puzzles
  static constexpr int64_t kMoves = 50;                    // from puzzle to puzzle

  void move() {
    Board other = puzzle_.givens;
    const int count = 1 + static_cast<int>(random_.below(3));
    const std::vector<int> added = put_back(other, puzzle_.solution, count, random_);
    std::vector<int> cells = shuffled(other.geometry.cells(), 0, random_);
    // The new givens last, or they would often be the first to go.
    std::stable_partition(cells.begin(), cells.end(), [&](int cell) {
      return std::find(added.begin(), added.end(), cell) == added.end();
    });
    minimise(other, cells);
    const int64_t guesses = solve(other).nodes;
    if (guesses < guesses_) return;
    puzzle_.givens = other;
    guesses_ = guesses;
  }

  Philox random_;
  GeneratedPuzzle puzzle_;
  int64_t guesses_, moves_ = 0;
};

// How many of the puzzles before this one are hard.
int64_t hard_before(const GeneratorOptions& options, int64_t index) {
  return static_cast<int64_t>(std::floor(options.hard_share * static_cast<double>(index)));
}

bool is_hard(const GeneratorOptions& options, int64_t index) {
  return hard_before(options, index + 1) > hard_before(options, index);
}

GeneratedPuzzle easier(const GeneratorOptions& options, int64_t index) {
  Philox random(options.seed, first_stream(options.use) + static_cast<uint64_t>(index));
  GeneratedPuzzle puzzle = draw(options, random);
  while (!meant_for(options.use, puzzle.givens)) puzzle = draw(options, random);
  return puzzle;
}

}  // namespace

GeneratedPuzzle generate(const GeneratorOptions& options, int64_t index) {
  return generate(options, index, 1).front();
}

std::vector<GeneratedPuzzle> generate(const GeneratorOptions& options,
                                      std::span<const int64_t> indices) {
  // What one thread makes: a puzzle, or all that are wanted of a climb. By places in `indices`.
  std::vector<std::vector<size_t>> tasks;
  std::map<int64_t, size_t> task_of_climb;
  for (size_t place = 0; place < indices.size(); ++place) {
    const int64_t index = indices[place];
    check_options(options, index);
    size_t task = tasks.size();
    if (is_hard(options, index)) {
      const int64_t climb = hard_before(options, index) / Climb::kPuzzles;
      task = task_of_climb.try_emplace(climb, task).first->second;
    }
    if (task == tasks.size()) tasks.emplace_back();
    tasks[task].push_back(place);
  }
  std::vector<GeneratedPuzzle> puzzles(indices.size());
  kernels::parallel_for(std::ssize(tasks), 1, [&](int64_t first, int64_t last) {
    for (int64_t t = first; t < last; ++t) {
      std::vector<size_t>& task = tasks[static_cast<size_t>(t)];
      std::ranges::sort(task, {}, [&](size_t place) { return indices[place]; });
      const int64_t lowest = indices[task.front()];
      std::optional<Climb> climb;
      if (is_hard(options, lowest))
        climb.emplace(options, hard_before(options, lowest) / Climb::kPuzzles);
      for (const size_t place : task) {
        puzzles[place] = climb
                             ? climb->reach(hard_before(options, indices[place]) % Climb::kPuzzles)
                             : easier(options, indices[place]);
      }
    }
  });
  return puzzles;
}

std::vector<GeneratedPuzzle> generate(const GeneratorOptions& options, int64_t begin,
                                      int64_t count) {
  check_options(options, begin);
  check<OptionError>(count >= 0, "generate: {} puzzles; wanted 0 or more", count);
  std::vector<int64_t> indices(static_cast<size_t>(count));
  std::iota(indices.begin(), indices.end(), begin);
  return generate(options, indices);
}

}  // namespace stillpoint::sudoku
