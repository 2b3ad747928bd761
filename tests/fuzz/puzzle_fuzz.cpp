// Whatever the bytes, reading puzzles either succeeds with consistent boards or throws PuzzleError.
#include <cstdint>
#include <cstdlib>
#include <sstream>
#include <string>

#include "models/sudoku/puzzle_text.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace stillpoint::sudoku;
  if (size > 4096) return 0;
  // The first bit chooses the check: fuzzing both paths from one corpus.
  const bool unique = size > 0 && (data[0] & 1) != 0;
  std::istringstream in(std::string(reinterpret_cast<const char*>(data), size));
  try {
    for (const Puzzle& puzzle :
         read_puzzles(in, unique ? Uniqueness::required : Uniqueness::unchecked)) {
      if (find_conflict(puzzle.givens)) std::abort();
      if (puzzle.solution && !is_solved(*puzzle.solution)) std::abort();
      if (parse_puzzle(to_string(puzzle.givens)).givens != puzzle.givens) std::abort();
    }
  } catch (const PuzzleError&) {
  }
  return 0;
}
