#include "models/sudoku/puzzle_text.h"

#include <fmt/format.h>

#include <cerrno>
#include <fstream>
#include <istream>
#include <system_error>
#include <utility>

#include "models/sudoku/solver.h"

namespace stillpoint::sudoku {
namespace {

// -1 for a character that means nothing.
int char_to_value(char c, int side) {
  int value = -1;
  if (c == '.') return 0;
  if (c >= '0' && c <= '9') value = c - '0';
  if (c >= 'A' && c <= 'Z') value = c - 'A' + 10;
  if (c >= 'a' && c <= 'z') value = c - 'a' + 10;
  return value <= side ? value : -1;
}

std::string shown(char c) {
  const auto byte = static_cast<unsigned char>(c);
  return byte > 32 && byte < 127 ? fmt::format("'{}'", c) : fmt::format("byte 0x{:02x}", byte);
}

std::string where(Geometry geometry, int cell) {
  return fmt::format("row {}, column {}", geometry.row(cell) + 1, geometry.column(cell) + 1);
}

// One line of the input; columns of `text` count from column_offset + 1 in it.
struct Source {
  std::string_view text;
  int64_t line, column_offset;

  [[noreturn]] void fail(int64_t index, const std::string& reason) const {
    throw PuzzleError(line, column_offset + index + 1, reason);
  }
};

Board read_board(const Source& source, Geometry geometry) {
  Board board{.geometry = geometry};
  for (int cell = 0; cell < geometry.cells(); ++cell) {
    const char c = source.text[static_cast<size_t>(cell)];
    const int value = char_to_value(c, geometry.side());
    if (value < 0) {
      source.fail(
          cell, fmt::format("{} is no cell of a {}x{} board; wanted '.', '0' or 1 to {}", shown(c),
                            geometry.side(), geometry.side(), value_to_char(geometry.side())));
    }
    board[cell] = static_cast<uint8_t>(value);
  }
  if (const auto conflict = find_conflict(board)) {
    const auto [first, second] = *conflict;
    const char* unit = geometry.row(first) == geometry.row(second)         ? "row"
                       : geometry.column(first) == geometry.column(second) ? "column"
                                                                           : "box";
    source.fail(second, fmt::format("'{}' (at {}) is already in this {}, at {}",
                                    value_to_char(board[second]), where(geometry, second), unit,
                                    where(geometry, first)));
  }
  return board;
}

Geometry geometry_of(const Source& source) {
  const size_t length = source.text.size();
  for (int box = kMinBox; box <= kMaxBox; ++box) {
    const Geometry geometry{box};
    if (length == static_cast<size_t>(geometry.cells())) return geometry;
  }
  source.fail(0, fmt::format("a puzzle of {} characters; wanted 81 (9x9), 16 (4x4) or 256 (16x16)",
                             length));
}

Board read_solution(const Source& source, const Board& givens) {
  const Geometry geometry = givens.geometry;
  if (source.text.size() != static_cast<size_t>(geometry.cells())) {
    source.fail(0, fmt::format("a solution of {} characters for a puzzle of {}", source.text.size(),
                               geometry.cells()));
  }
  const Board solution = read_board(source, geometry);
  for (int cell = 0; cell < geometry.cells(); ++cell) {
    if (solution[cell] == 0) {
      source.fail(cell, fmt::format("the solution is blank at {}", where(geometry, cell)));
    }
    if (givens[cell] != 0 && givens[cell] != solution[cell]) {
      source.fail(cell, fmt::format("the solution has '{}' at {}, the puzzle '{}'",
                                    value_to_char(solution[cell]), where(geometry, cell),
                                    value_to_char(givens[cell])));
    }
  }
  return solution;
}

void require_unique(const Source& source, Puzzle& puzzle) {
  // Far beyond any real puzzle; a 16x16 board made to be hostile could keep a search busy for ever.
  constexpr int64_t kMostNodes = 1'000'000;
  const SolveReport report = solve(puzzle.givens, {.max_nodes = kMostNodes});
  if (report.solutions > 1) source.fail(0, "the puzzle has more than one solution");
  if (!report.complete) {
    source.fail(0, fmt::format("whether the puzzle has one solution is undecided after {} guesses",
                               report.nodes));
  }
  if (report.solutions == 0) source.fail(0, "the puzzle has no solution");
  puzzle.solution = report.solution;
}

std::vector<Puzzle> read_all(PuzzleReader reader) {
  std::vector<Puzzle> puzzles;
  while (auto puzzle = reader.next()) puzzles.push_back(*puzzle);
  return puzzles;
}

}  // namespace

PuzzleError::PuzzleError(int64_t line, int64_t column, const std::string& reason,
                         const std::string& source)
    : FormatError(fmt::format("{}{}line {}, column {}: {}", source, source.empty() ? "" : ": ",
                              line, column, reason)),
      line_(line),
      column_(column),
      reason_(reason) {}

Puzzle parse_puzzle(std::string_view text, Uniqueness uniqueness, int64_t line) {
  const size_t comma = text.find(',');
  const Source source{text.substr(0, comma), line, 0};
  Puzzle puzzle{.givens = read_board(source, geometry_of(source)), .solution = {}};
  if (comma != std::string_view::npos) {
    const Source rest{text.substr(comma + 1), line, static_cast<int64_t>(comma) + 1};
    puzzle.solution = read_solution(rest, puzzle.givens);
  }
  if (uniqueness == Uniqueness::required) require_unique(source, puzzle);
  return puzzle;
}

PuzzleReader::PuzzleReader(std::istream& in, std::string source, Uniqueness uniqueness)
    : in_(in), source_(std::move(source)), uniqueness_(uniqueness) {}

std::optional<Puzzle> PuzzleReader::next() {
  for (std::string text; std::getline(in_, text);) {
    ++line_;
    if (!text.empty() && text.back() == '\r') text.pop_back();
    if (text.empty() || text.front() == '#') continue;
    try {
      return parse_puzzle(text, uniqueness_, line_);
    } catch (const PuzzleError& error) {
      throw PuzzleError(error.line(), error.column(), error.reason(), source_);
    }
  }
  if (in_.bad()) {
    throw IoError(fmt::format("{}: reading puzzles failed", source_.empty() ? "input" : source_));
  }
  return std::nullopt;
}

std::ifstream open_puzzles(const std::filesystem::path& file) {
  std::error_code ignored;  // what is not there is not a folder
  check<IoError>(!std::filesystem::is_directory(file, ignored),
                 "cannot read puzzles from '{}': it is a folder", file.string());
  std::ifstream in(file, std::ios::binary);
  check<IoError>(in.good(), "cannot open the puzzle file '{}': {}", file.string(),
                 std::generic_category().message(errno));
  return in;
}

std::vector<Puzzle> read_puzzles(std::istream& in, Uniqueness uniqueness) {
  return read_all(PuzzleReader(in, {}, uniqueness));
}

std::vector<Puzzle> read_puzzles(const std::filesystem::path& file, Uniqueness uniqueness) {
  std::ifstream in = open_puzzles(file);
  return read_all(PuzzleReader(in, file.string(), uniqueness));
}

char value_to_char(int value) { return ".123456789ABCDEFG"[value]; }

std::string to_string(const Board& board) {
  std::string text;
  for (int cell = 0; cell < board.geometry.cells(); ++cell) text += value_to_char(board[cell]);
  return text;
}

}  // namespace stillpoint::sudoku
