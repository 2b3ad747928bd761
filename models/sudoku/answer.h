// What a network answers, and how sure it is.
#pragma once

#include <span>
#include <vector>

#include "engine/tensor.h"
#include "models/sudoku/board.h"

namespace stillpoint::sudoku {

struct Answer {
  Board board;                 // the likeliest digit of every cell, the first of equals
  std::vector<float> certain;  // [cells] the probability of that digit
  double certainty = 0;        // mean of the above
  bool valid = false;          // the board solves the puzzle: see solves
};

// No blank, no conflict, and every given kept.
bool solves(const Board& answer, const Board& givens);

// logits [boards, cells, side], on any device. Throws ShapeError unless they fit the givens.
std::vector<Answer> read_answers(const Tensor& logits, std::span<const Board> givens);

// The rule that picks among answers to one puzzle; it knows the puzzle and nothing of its solution:
// a valid answer beats one that is not, then the larger certainty wins. False for equals.
bool better(const Answer& a, const Answer& b);

}  // namespace stillpoint::sudoku
