// Which 4x4 puzzles are the same but for a symmetry: there are so few of them that training and
// evaluation have to be kept apart by it.
#pragma once

#include <cstdint>

#include "models/sudoku/board.h"

namespace stillpoint::sudoku {

// A number that two 4x4 boards share exactly if one becomes the other by renaming digits, swapping
// the rows of a band, the bands, the columns of a stack, the stacks, or rows with columns. Throws
// ShapeError for boards of another size.
uint64_t symmetry_class(const Board& board);

}  // namespace stillpoint::sudoku
