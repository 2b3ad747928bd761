// What `sudoku train` is asked for, and the run that does it.
#pragma once

#include <cstdint>
#include <string>

#include "models/sudoku/trainer.h"
#include "tools/sudoku.h"

namespace stillpoint::tools {

struct TrainCommand {
  CommonOptions common;
  sudoku::TrainOptions train;
  std::string output;
  double minutes = 0;
  int64_t steps = 0;
  bool resume = false;
  sudoku::Changes changes;  // as given, for --resume
  double save_every = 60;
  int64_t validate = 64;
  std::string plot;
};

// Returns the exit status. Throws what opening, making and saving a run throws.
int run_train(const TrainCommand& command);

}  // namespace stillpoint::tools
