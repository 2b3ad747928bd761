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
  std::string output, from;
  bool fresh_refiner = false;
  double minutes = 0;
  int64_t steps = 0;
  int64_t until = 0;  // the run stops after this step as if interrupted; 0: only at its end
  bool resume = false;
  sudoku::Trainer::Change change;  // of options, with --resume; empty: the run keeps its own
  std::string changes;             // the same as it was given
  double save_every = 60;          // seconds
  int64_t save_steps = 0;          // if positive, in place of save_every
  int64_t validate = 64;
  std::string plot;
};

// What of the equilibria the command line sets: for a new run, and in one that is taken up again.
class EquilibriumArguments {
 public:
  void add_to(CLI::App& app);
  std::vector<const CLI::Option*> given() const;
  // Sets what is given. Throws OptionError on what contradicts itself.
  void apply(sudoku::EquilibriumOptions& options) const;

 private:
  template <class T>
  void add(CLI::Option* option, T sudoku::EquilibriumOptions::*member);

  sudoku::EquilibriumOptions values_;
  std::vector<std::pair<CLI::Option*, std::function<void(sudoku::EquilibriumOptions&)>>> options_;
};

// What metrics.jsonl says of a run as a whole, and of a step: `bytes` is the most that it held at
// once beyond what was held before it.
nlohmann::ordered_json run_record(const sudoku::TrainOptions& options, Device device);
nlohmann::ordered_json step_record(const sudoku::Trainer& trainer, double seconds, int64_t bytes,
                                   const sudoku::TrainReport& report);
// The options as they were given.
std::string as_given(const std::vector<const CLI::Option*>& options);
// Of a run from its beginning, without its length.
std::string command_line(const TrainCommand& command, const sudoku::TrainOptions& options);

// Returns the exit status. Throws what opening, making and saving a run throws.
int run_train(const TrainCommand& command);

}  // namespace stillpoint::tools
