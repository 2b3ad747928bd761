// sudoku: makes puzzles, and trains, measures and asks networks that solve them by refinement.
#include "tools/sudoku.h"

#include <string>

#include "engine/error.h"
#include "kernels/common/parallel.h"
#include "tools/support/console.h"
#include "tools/support/options.h"

namespace stillpoint::tools {

void CommonOptions::add_to(CLI::App& app, const char* seed_help, const char* json_help) {
  add_number(app, "--seed", seed, seed_help, 0);
  add_number(app, "--threads", threads,
             "CPU threads; 0 takes all cores. Results do not depend on it", 0);
  add_choice(app, "--device", device, {{"cpu", Device::cpu}, {"cuda", Device::cuda}},
             "Where to compute: cpu or cuda [cpu]")
      ->type_name("DEVICE");
  app.add_flag("--json", json, json_help);
}

void CommonOptions::apply() const {
  kernels::set_num_threads(threads);
  check<OptionError>(
      available(device),
      "--device {}: not available; a build with STILLPOINT_CUDA=ON (preset cuda) and "
      "a GPU are wanted",
      name(device));
}

CLI::Option* add_solver(CLI::App& app, sudoku::SolverKind& solver, const std::string& help) {
  using sudoku::SolverKind;
  return add_choice<SolverKind>(app, "--solver", solver,
                                {{"anderson", SolverKind::anderson},
                                 {"broyden", SolverKind::broyden},
                                 {"damped", SolverKind::damped}},
                                help);
}

namespace {

int run(int argc, char** argv) {
  CLI::App app(
      "Trains networks that solve Sudokus by refining an answer again and again, measures how "
      "many\n"
      "boards they get right after how many refinements, and solves puzzles with them.\n\n"
      "  sudoku generate --count 1000 --output puzzles.csv\n"
      "  sudoku train --output runs/first --minutes 8\n"
      "  sudoku eval --checkpoint runs/first/checkpoint.safetensors --puzzles puzzles.csv\n"
      "  sudoku generate --count 1 | sudoku solve --checkpoint runs/first/checkpoint.safetensors "
      "-");
  app.require_subcommand(1);
  app.set_help_all_flag("--help-all", "Help for all subcommands");
  std::function<int()> chosen;
  const auto add = [&](const char* name, const char* help,
                       std::function<int()> (*make)(CLI::App&)) {
    CLI::App* command = app.add_subcommand(name, help);
    command->final_callback([&chosen, run_it = make(*command)] { chosen = run_it; });
  };
  add("generate", "Make puzzles", add_generate);
  add("train", "Train a network on puzzles made on the way", add_train);
  add("eval", "Measure a trained network", add_eval);
  add("solve", "Solve puzzles with a trained network", add_solve);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 1;
  }
  return chosen();
}

}  // namespace
}  // namespace stillpoint::tools

int main(int argc, char** argv) {
  return stillpoint::tools::run_main("sudoku", [&] { return stillpoint::tools::run(argc, argv); });
}
