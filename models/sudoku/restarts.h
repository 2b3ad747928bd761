// Several tries at one puzzle, each from another start.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/tensor.h"
#include "models/sudoku/network.h"

namespace stillpoint::sudoku {

struct RestartOptions {
  int tries = 1;  // the first is from the network's own start
  uint64_t seed = 1;
  double deviation = 0.5;  // of the normal noise added to the start for every later try
};

// Throws OptionError for tries outside 1 to 2^20 or a deviation that is negative or not finite.
void check_options(const RestartOptions& options);

// h_0 of try `attempt`, from 0, for the puzzles with these numbers: [puzzles, nodes, channels]. The
// noise of a puzzle depends on the seed, its number and the try alone: not on the other puzzles in
// the call, nor on threads. Throws OptionError for an attempt outside the tries or a number outside
// 0 to 2^41.
Tensor start_try(const Network& net, std::span<const int64_t> puzzles, int attempt,
                 const RestartOptions& options);

// States [boards, nodes, channels] of the boards at these places alone. At least one.
Tensor keep_boards(const Tensor& states, const std::vector<int32_t>& places);

}  // namespace stillpoint::sudoku
