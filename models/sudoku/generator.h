// Puzzles made from nothing but a seed.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "models/sudoku/board.h"

namespace stillpoint::sudoku {

enum class PuzzleKind {
  minimal,   // no given can be taken away without a second solution appearing
  ordinary,  // a minimal puzzle with some givens put back
  hard,      // a minimal puzzle changed time and again for one that takes more guesses
};

// The two draw from streams of their own, whatever their seeds: a board of one meets a board of the
// other by chance alone. On 9x9 and 16x16 that does not happen; 4x4 puzzles, with their 288 grids,
// are shared out between them so that not even a symmetry makes one of the other.
enum class PuzzleUse { training, evaluation };

struct GeneratorOptions {
  Geometry geometry = {};
  uint64_t seed = 1;
  PuzzleUse use = PuzzleUse::training;
  double hard_share = 0;     // in [0, 1], evenly spread over the sequence; 9x9 only
  double minimal_share = 1;  // of the others, in [0, 1]; the rest is ordinary
  int most_extra = 30;  // an ordinary puzzle gets 0 to this many givens back, all equally likely

  bool operator==(const GeneratorOptions&) const = default;
};

struct GeneratedPuzzle {
  Board givens, solution;
  PuzzleKind kind = PuzzleKind::minimal;
};

// Puzzle number index of the endless sequence that the options name. Its draws, or those of its
// climb, are its own (a Philox stream): it depends on the options and index alone, not on threads.
//
// A solved grid comes from three independent random boxes on the diagonal and a search that guesses
// in random order; givens then go in random order while the solution stays the only one. Removing
// a given is safe exactly if no solution has another value in its cell, which takes one search.
// Up to 9x9 searches are exact. A 16x16 search that gets long counts as "another solution": the
// puzzle still has one solution, but may hold givens that it could spare.
//
// Hard puzzles come in climbs. A climb starts at a minimal puzzle; a move puts one to three givens
// back, takes others away until the puzzle is minimal again, and stands if the exact solver needs
// no fewer guesses than before. Every 50th puzzle of a climb is handed out, 16 in all, which
// share a solution and get harder: from 40 guesses to 250 in the mean (a minimal puzzle: 4).
//
// Throws OptionError for a share outside [0, 1], hard puzzles of another size than 9x9 or a
// most_extra outside 0 to 256. Typical cost on one core: 0.2 ms for 9x9; a hard puzzle takes 150
// ms of climbing, a whole climb of them 10 ms each.
GeneratedPuzzle generate(const GeneratorOptions& options, int64_t index);

// Puzzles of these numbers, in parallel; each climb is climbed once.
std::vector<GeneratedPuzzle> generate(const GeneratorOptions& options,
                                      std::span<const int64_t> indices);

// Puzzles [begin, begin + count).
std::vector<GeneratedPuzzle> generate(const GeneratorOptions& options, int64_t begin,
                                      int64_t count);

}  // namespace stillpoint::sudoku
