// Puzzles made from nothing but a seed.
#pragma once

#include <cstdint>
#include <vector>

#include "models/sudoku/board.h"

namespace stillpoint::sudoku {

enum class PuzzleKind {
  minimal,   // no given can be taken away without a second solution appearing
  ordinary,  // a minimal puzzle with some givens put back
};

// The two draw from streams of their own, whatever their seeds: a board of one meets a board of the
// other by chance alone. On 9x9 and 16x16 that does not happen; 4x4 puzzles, with their 288 grids,
// are shared out between them so that not even a symmetry makes one of the other.
enum class PuzzleUse { training, evaluation };

struct GeneratorOptions {
  Geometry geometry = {};
  uint64_t seed = 1;
  PuzzleUse use = PuzzleUse::training;
  double minimal_share = 1;  // in [0, 1]; the others are ordinary
  int most_extra = 30;  // an ordinary puzzle gets 0 to this many givens back, all equally likely
};

struct GeneratedPuzzle {
  Board givens, solution;
  PuzzleKind kind = PuzzleKind::minimal;
};

// Puzzle number index of the endless sequence that the options name. Its draws are its own
// (a Philox stream), so that it depends on neither the puzzles before it nor the threads.
//
// A solved grid comes from three independent random boxes on the diagonal and a search that guesses
// in random order; givens then go in random order while the solution stays the only one. Removing
// a given is safe exactly if no solution has another value in its cell, which takes one search.
// Up to 9x9 searches are exact. A 16x16 search that gets long counts as "another solution": the
// puzzle still has one solution, but may hold givens that it could spare.
// Throws OptionError for a share outside [0, 1] or a most_extra outside 0 to 256. Typical cost on
// one core: 0.2 ms for 9x9.
GeneratedPuzzle generate(const GeneratorOptions& options, int64_t index);

// Puzzles [begin, begin + count), in parallel.
std::vector<GeneratedPuzzle> generate(const GeneratorOptions& options, int64_t begin,
                                      int64_t count);

}  // namespace stillpoint::sudoku
