// What `sudoku train` is asked for, and the run that does it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "models/sudoku/trainer.h"
#include "tools/sudoku.h"

namespace stillpoint::tools {

struct TrainCommand {
  CommonOptions common;
  sudoku::TrainOptions train;
  std::string output, from;
  double minutes = 0;
  int64_t steps = 0;
  bool resume = false;
  std::optional<sudoku::Precision> precision;  // as given: --resume else keeps the run's own
  double save_every = 60;
  int64_t validate = 64;
  std::string plot;
};

// The options that a model has of its own, and the command line that makes a run again: bit for bit
// if its length is in steps.
std::string model_options(const sudoku::NetworkOptions& options);
std::string command_line(const TrainCommand& command, const sudoku::TrainOptions& options);

// Returns the exit status. Throws what opening, making and saving a run throws.
int run_train(const TrainCommand& command);

}  // namespace stillpoint::tools
