#include "models/sudoku/board.h"

namespace stillpoint::sudoku {

std::vector<int32_t> peers(Geometry geometry) {
  std::vector<int32_t> list;
  for (int cell = 0; cell < geometry.cells(); ++cell) {
    for (int other = 0; other < geometry.cells(); ++other) {
      if (other != cell && geometry.same_unit(cell, other)) list.push_back(other);
    }
  }
  return list;
}

int Board::givens() const {
  int count = 0;
  for (int cell = 0; cell < geometry.cells(); ++cell) count += (*this)[cell] != 0;
  return count;
}

std::optional<Conflict> find_conflict(const Board& board) {
  for (int second = 1; second < board.geometry.cells(); ++second) {
    if (board[second] == 0) continue;
    for (int first = 0; first < second; ++first) {
      if (board[first] == board[second] && board.geometry.same_unit(first, second)) {
        return Conflict{first, second};
      }
    }
  }
  return std::nullopt;
}

bool is_solved(const Board& board) {
  return board.givens() == board.geometry.cells() && !find_conflict(board);
}

}  // namespace stillpoint::sudoku
