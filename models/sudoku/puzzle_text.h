// Puzzles as text: one a line, 81 characters, `.` or `0` for a blank, optionally a comma and the
// solution. 16 characters are a 4x4 board, 256 a 16x16 board (values 1-9 and A-G, either case).
#pragma once

#include <cstdint>
#include <filesystem>
#include <iosfwd>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/error.h"
#include "models/sudoku/board.h"

namespace stillpoint::sudoku {

// What is wrong with a line of puzzle text, and where. Lines and columns count from 1; `source`, if
// any, names the file.
class PuzzleError : public FormatError {
 public:
  PuzzleError(int64_t line, int64_t column, const std::string& reason,
              const std::string& source = {});
  int64_t line() const { return line_; }
  int64_t column() const { return column_; }
  const std::string& reason() const { return reason_; }

 private:
  int64_t line_, column_;
  std::string reason_;
};

enum class Uniqueness {
  unchecked,  // a given solution is checked against the rules and the givens, nothing more
  required,   // the puzzle must have one solution; Puzzle::solution is then always filled
};

// Throws PuzzleError: wrong length, unknown character, two equal givens in a row, column or box, a
// solution that leaves blanks, breaks a rule or contradicts a given; if uniqueness is required, no
// solution, more than one, or no verdict after a million guesses.
Puzzle parse_puzzle(std::string_view text, Uniqueness uniqueness = Uniqueness::unchecked,
                    int64_t line = 1);

// One puzzle a line, read one at a time; blank lines and lines that start with `#` are skipped,
// line ends may be those of either convention.
class PuzzleReader {
 public:
  // Errors name the source. `in` must outlive the reader.
  explicit PuzzleReader(std::istream& in, std::string source = {},
                        Uniqueness uniqueness = Uniqueness::unchecked);
  // The next puzzle, or nothing at the end. Throws PuzzleError, or IoError if reading fails.
  std::optional<Puzzle> next();
  int64_t line() const { return line_; }  // of the puzzle read last

 private:
  std::istream& in_;
  std::string source_;
  Uniqueness uniqueness_;
  int64_t line_ = 0;
};

// Throws IoError if the file cannot be opened, or is a folder.
std::ifstream open_puzzles(const std::filesystem::path& file);

// All puzzles of a stream or a file. Throw what the above throw.
std::vector<Puzzle> read_puzzles(std::istream& in, Uniqueness uniqueness = Uniqueness::unchecked);
std::vector<Puzzle> read_puzzles(const std::filesystem::path& file,
                                 Uniqueness uniqueness = Uniqueness::unchecked);

char value_to_char(int value);  // 0 is `.`
std::string to_string(const Board& board);

}  // namespace stillpoint::sudoku
