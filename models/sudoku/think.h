// A network at work on puzzles whose solution nobody has told it.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "models/sudoku/answer.h"
#include "models/sudoku/network.h"
#include "models/sudoku/restarts.h"

namespace stillpoint::sudoku {

// What a board looks like after one iteration.
struct ThinkStep {
  int64_t board;  // its place among the givens
  int attempt;    // from 0
  int iteration;  // from 1
  const Answer& answer;
};

struct ThinkOptions {
  int iterations = 64;  // of every try, at most
  RestartOptions restarts = {};
  int64_t first_number = 0;  // of the first puzzle; they are numbered on from it for the restarts
  int linger = 0;            // iterations that follow a valid answer, for somebody who watches
  std::function<bool(const ThinkStep&)> observe = {};  // returning false stops everything
};

struct Thought {
  Answer answer;
  int attempt = 0;
  int iterations = 0;  // behind the answer, in its try; 0 if stopped before there was any
};

// Refines the boards together. One that is answered validly is done; one that is not after all
// iterations is tried again from another start, and in the end keeps the answer that `better` picks
// among those of the tries. Throws ShapeError for boards that do not fit the network, OptionError
// for iterations below 1, a negative linger, or restarts that check_options refuses.
std::vector<Thought> think(const Network& net, std::span<const Board> givens,
                           const ThinkOptions& options = {});

}  // namespace stillpoint::sudoku
