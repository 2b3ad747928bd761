// Boards drawn as text, and the terminal that watches one change.
#pragma once

#include <string>

#include "models/sudoku/think.h"

namespace stillpoint::tools {

// Nine rows of digits between rules, '.' for a blank.
std::string draw(const sudoku::Board& board);

// Shows every iteration on the standard output. On a terminal one board is redrawn in place: givens
// bold, other digits from red (a guess) to green (certain). Elsewhere the frames after 1, 2, 4, 8,
// ... iterations follow each other without colour, and cells of which the network is less than half
// certain are '.'.
class Watch {
 public:
  Watch(const sudoku::Board& givens, const sudoku::ThinkOptions& options);
  ~Watch();  // gives the cursor back
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;

  bool on_terminal() const { return on_terminal_; }
  void show(const sudoku::Answer& answer, int attempt, int iteration);

 private:
  std::string frame(const sudoku::Answer& answer, int attempt, int iteration) const;

  const sudoku::Board givens_;
  const int iterations_, tries_;
  const bool on_terminal_;
  bool drawn_ = false;
};

}  // namespace stillpoint::tools
