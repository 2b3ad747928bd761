#include "models/sudoku/symmetry.h"

#include <algorithm>
#include <utility>

#include "engine/error.h"

namespace stillpoint::sudoku {

uint64_t symmetry_class(const Board& board) {
  check<ShapeError>(board.geometry.box == 2, "symmetry_class: a board of box size {}; wanted 2",
                    board.geometry.box);
  // The line that comes to be `line`: bit 0 swaps the bands, bits 1 and 2 the lines of each.
  const auto from = [](uint32_t line, uint32_t swaps) {
    const uint32_t band = line / 2 ^ (swaps & 1);
    return 2 * band + (line % 2 ^ (swaps >> (1 + band) & 1));
  };
  uint64_t least = ~uint64_t{0};
  for (uint32_t symmetry = 0; symmetry < 128; ++symmetry) {
    uint64_t key = 0;
    uint64_t names[5] = {0, 0, 0, 0, 0}, named = 0;  // digits are named as they appear
    for (uint32_t row = 0; row < 4; ++row) {
      for (uint32_t column = 0; column < 4; ++column) {
        uint32_t r = from(row, symmetry & 7), c = from(column, symmetry >> 3 & 7);
        if (symmetry >= 64) std::swap(r, c);
        const uint8_t digit = board[static_cast<int>(4 * r + c)];
        if (digit != 0 && names[digit] == 0) names[digit] = ++named;
        key = key << 4 | names[digit];
      }
    }
    least = std::min(least, key);
  }
  return least;
}

}  // namespace stillpoint::sudoku
