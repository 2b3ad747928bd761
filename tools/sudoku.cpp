// sudoku: trains networks that solve Sudokus by refinement, and measures them.
#include "tools/sudoku.h"

#include <map>
#include <string>

#include "engine/error.h"
#include "kernels/common/parallel.h"
#include "tools/support/console.h"

namespace stillpoint::tools {

void CommonOptions::add_to(CLI::App& app, const char* seed_help, const char* json_help) {
  app.add_option("--seed", seed, seed_help)->capture_default_str();
  app.add_option("--threads", threads,
                 "CPU threads; 0 takes all cores. Results do not depend on it")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  const std::map<std::string, Device> devices = {{"cpu", Device::cpu}, {"cuda", Device::cuda}};
  app.add_option("--device", device, "Where to compute: cpu or cuda [cpu]")
      ->transform(CLI::CheckedTransformer(devices).description(""))
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

namespace {

int run(int argc, char** argv) {
  CLI::App app(
      "Trains networks that solve Sudokus by refining an answer again and again, and measures how\n"
      "many boards they get right after how many refinements.\n\n"
      "  sudoku train --output runs/first --minutes 8\n"
      "  sudoku eval --checkpoint runs/first/checkpoint.safetensors");
  app.require_subcommand(1);
  app.set_help_all_flag("--help-all", "Help for all subcommands");
  std::function<int()> chosen;
  CLI::App* train = app.add_subcommand("train", "Train a network on puzzles made on the way");
  CLI::App* eval = app.add_subcommand("eval", "Measure a trained network");
  const auto run_train = add_train(*train), run_eval = add_eval(*eval);
  CLI11_PARSE(app, argc, argv);
  return train->parsed() ? run_train() : run_eval();
}

}  // namespace
}  // namespace stillpoint::tools

int main(int argc, char** argv) {
  return stillpoint::tools::run_main("sudoku", [&] { return stillpoint::tools::run(argc, argv); });
}
