// What `sudoku train` is asked for, and the run that does it.
#pragma once

#include <cstdint>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <utility>
#include <vector>

#include "models/sudoku/trainer.h"
#include "tools/sudoku.h"

namespace stillpoint::tools {

struct TrainCommand {
  CommonOptions common;
  sudoku::TrainOptions train;
  std::string output;
  double minutes = 0;
  int64_t steps = 0;
  int64_t until = 0;  // the run stops after this step as if interrupted; 0: only at its end
  bool resume = false;
  sudoku::Trainer::Change change;  // of options, with --resume; empty: the run keeps its own
  double save_every = 60;          // seconds
  int64_t save_steps = 0;          // if positive, in place of save_every
  int64_t validate = 64;
  std::string plot;
};

// What of the equilibria the command line sets: for a new run, and in one that is taken up again.
class EquilibriumArguments {
 public:
  void add_to(CLI::App& app);
  // The first of the options that is given; null if none is.
  const CLI::Option* given() const;
  // Sets what is given. Throws OptionError on what contradicts itself.
  void apply(sudoku::EquilibriumOptions& options) const;
  sudoku::EquilibriumOptions made() const;  // with the others' defaults

 private:
  template <class T>
  void add(CLI::Option* option, T sudoku::EquilibriumOptions::*member);

  sudoku::EquilibriumOptions values_;
  std::vector<std::pair<CLI::Option*, std::function<void(sudoku::EquilibriumOptions&)>>> options_;
};

// What metrics.jsonl says of a run as a whole, and of a step.
nlohmann::ordered_json run_record(const sudoku::TrainOptions& options, Device device);
nlohmann::ordered_json step_record(const sudoku::Trainer& trainer, double seconds,
                                   const sudoku::TrainReport& report);
// What makes this network again: bit for bit if its length is in steps, and no --resume changed
// options on the way.
std::string command_line(const sudoku::TrainOptions& options, int64_t steps, double minutes);

// Returns the exit status. Throws what opening, making and saving a run throws.
int run_train(const TrainCommand& command);

}  // namespace stillpoint::tools
