// Sudoku boards of any box size: 2 gives 4x4, 3 the usual 9x9, 4 gives 16x16.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

namespace stillpoint::sudoku {

inline constexpr int kMinBox = 2;
inline constexpr int kMaxBox = 4;
inline constexpr int kMaxSide = kMaxBox * kMaxBox;
inline constexpr int kMaxCells = kMaxSide * kMaxSide;

// Cells are numbered row by row; so are boxes. Values run from 1 to side().
struct Geometry {
  int box = 3;

  constexpr int side() const { return box * box; }
  constexpr int cells() const { return side() * side(); }
  constexpr int row(int cell) const { return cell / side(); }
  constexpr int column(int cell) const { return cell % side(); }
  constexpr int block(int cell) const { return row(cell) / box * box + column(cell) / box; }
  constexpr bool same_unit(int a, int b) const {
    return row(a) == row(b) || column(a) == column(b) || block(a) == block(b);
  }
  bool operator==(const Geometry&) const = default;
};

// For every cell in order, the other cells of its row, column and box, ascending; all cells have
// the same number: 7, 20 or 39.
std::vector<int32_t> peers(Geometry geometry);

struct Board {
  Geometry geometry = {};
  std::array<uint8_t, kMaxCells>
      cells{};  // 0 is blank; entries from geometry.cells() on are unused

  uint8_t operator[](int cell) const { return cells[static_cast<size_t>(cell)]; }
  uint8_t& operator[](int cell) { return cells[static_cast<size_t>(cell)]; }
  int givens() const;
  bool operator==(const Board&) const = default;
};

struct Puzzle {
  Board givens;
  std::optional<Board> solution;
};

// Two equal values in one unit.
struct Conflict {
  int first, second;  // cells, first < second
};

// The first conflict in reading order of the second cell, if any; blanks never conflict.
std::optional<Conflict> find_conflict(const Board& board);

// No blank and no conflict.
bool is_solved(const Board& board);

}  // namespace stillpoint::sudoku
