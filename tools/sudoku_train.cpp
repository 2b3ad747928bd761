// sudoku train: the run.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <filesystem>
#include <iterator>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "engine/error.h"
#include "engine/memory.h"
#include "kernels/gemm/bf16.h"
#include "models/sudoku/evaluate.h"
#include "models/sudoku/generator.h"
#include "models/sudoku/trainer.h"
#include "tools/sudoku_charts.h"
#include "tools/sudoku_train.h"
#include "tools/support/console.h"
#include "tools/support/json_lines.h"

namespace stillpoint::tools {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

double since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// Emulated, bfloat16 would give the same network, but later than float32.
void check_precision(sudoku::Precision precision) {
  check<OptionError>(
      precision == sudoku::Precision::f32 || &kernels::bf16_kernel() != &kernels::bf16_portable(),
      "--precision bf16: this processor has no AMX-BF16, or system or STILLPOINT_ISA keep it from "
      "being used; wanted f32");
}

// The run in --output: a new one, or the one that is taken up again.
sudoku::Trainer open_run(const TrainCommand& c, const fs::path& checkpoint) {
  std::error_code ignored;
  const bool there = fs::exists(checkpoint, ignored);
  if (c.resume) {
    check<IoError>(there, "--resume: no {} to go on from", checkpoint.string());
    sudoku::Trainer trainer = sudoku::Trainer::load(checkpoint, c.common.device, c.change);
    check_precision(trainer.options().net.precision);
    return trainer;
  }
  check<OptionError>(!there, "--output {}: holds a run already; take another folder, or --resume",
                     c.output);
  check_precision(c.train.net.precision);
  sudoku::Trainer trainer(c.train, c.common.device);
  if (!c.from.empty()) trainer.start_from(c.from, c.fresh_refiner);
  std::error_code error;
  fs::create_directories(c.output, error);
  check<IoError>(!error, "--output {}: {}", c.output, error.message());
  return trainer;
}

class Run {
 public:
  explicit Run(const TrainCommand& c)
      : command_(c),
        checkpoint_(fs::path(c.output) / "checkpoint.safetensors"),
        network_(fs::path(c.output) / "network.safetensors"),
        trainer_(open_run(c, checkpoint_)),
        metrics_(fs::path(c.output) / "metrics.jsonl",
                 c.resume ? JsonLines::Open::resume : JsonLines::Open::fresh, trainer_.steps()),
        seconds_before_(trainer_.seconds) {
    name_part();
    if (!c.resume || c.change)
      metrics_.write({{"run", run_record(trainer_.options(), c.common.device)}});
    const sudoku::GeneratorOptions unseen{.geometry = trainer_.options().net.geometry,
                                          .seed = trainer_.options().seed,
                                          .use = sudoku::PuzzleUse::evaluation};
    for (const auto& made : sudoku::generate(unseen, 0, c.validate)) {
      validation_.push_back({made.givens, made.solution});
    }
  }

  int run() {
    note_interrupts();
    double saved = elapsed();
    const int64_t first = trainer_.steps();
    while (progress() < 1 && !interrupted() && !at_stop()) {
      using sudoku::MeasureDraws;
      const bool logged = (trainer_.steps() + 1) % 10 == 0;
      const Device device = trainer_.net().device();
      reset_peak_memory(device);
      const int64_t held = memory_stats(device).live;
      const std::clock_t begun = std::clock();
      const sudoku::TrainReport report =
          trainer_.step(progress(), logged ? MeasureDraws::yes : MeasureDraws::no);
      trainer_.cpu_seconds += static_cast<double>(std::clock() - begun) / CLOCKS_PER_SEC;
      if (logged) {
        metrics_.write(step_record(trainer_, elapsed(), memory_stats(device).peak - held, report));
      }
      console_.show([&] { return status(report, first); });
      if (time_to_save(saved)) {
        save();
        validate();
        log_radii();
        plot();
        saved = elapsed();
      }
    }
    save();
    validate();
    log_radii();
    plot();
    console_.finish();
    print_summary();
    return interrupted() ? 130 : 0;
  }

 private:
  double elapsed() const { return seconds_before_ + since(start_); }

  // Of a checkpoint.
  nlohmann::ordered_json moment() const {
    return {{"step", trainer_.steps()},
            {"seconds", trainer_.seconds},
            {"cpu_seconds", trainer_.cpu_seconds}};
  }

  // Of the whole run, earlier parts included.
  double progress() const {
    if (command_.steps > 0) {
      return static_cast<double>(trainer_.steps()) / static_cast<double>(command_.steps);
    }
    return elapsed() / (60 * command_.minutes);
  }

  // What makes this network again, bit for bit if lengths are in steps, is the commands of its
  // parts. One that goes on as before begins no part.
  void name_part() {
    std::string length = command_.steps > 0 ? fmt::format(" --steps {}", command_.steps)
                                            : fmt::format(" --minutes {}", command_.minutes);
    if (command_.until > 0) length += fmt::format(" --until {}", command_.until);
    if (!command_.resume) {
      trainer_.command = command_line(command_, trainer_.options()) + length;
      return;
    }
    const std::string part = "sudoku train --resume" + command_.changes + length;
    std::string& present = trainer_.command;
    if (command_.changes.empty() ? present.ends_with(length) : present == part) return;
    // Old checkpoints do not have theirs.
    trainer_.earlier += fmt::format(
        "{} (to step {}); ", present.empty() ? "a part not recorded" : present, trainer_.steps());
    present = part;
  }

  bool at_stop() const { return command_.until > 0 && trainer_.steps() >= command_.until; }

  bool time_to_save(double saved) const {
    if (command_.save_steps > 0) return trainer_.steps() % command_.save_steps == 0;
    return elapsed() - saved >= command_.save_every;
  }

  // Of the weights as they are trained, not of their averages.
  void log_radii() {
    const auto& e = trainer_.options().carry.equilibrium;
    if (!e || validation_.empty() || radii_logged_ == trainer_.steps()) return;
    std::vector<sudoku::Board> boards;
    for (size_t b = 0; b < std::min<size_t>(8, validation_.size()); ++b)
      boards.push_back(validation_[b].givens);
    std::vector<double> radii;
    for (const sudoku::Stability& board : sudoku::stability(trainer_.net(), boards, *e))
      radii.push_back(board.radius);
    nlohmann::ordered_json line = moment();
    line["radii"] = radii;
    metrics_.write(line);
    radii_logged_ = trainer_.steps();
  }

  std::string status(const sudoku::TrainReport& r, int64_t first) const {
    const double here = since(start_), done = progress();
    const double left = done > 0 && done < 1 ? elapsed() / done * (1 - done) : 0;
    const sudoku::EquilibriumReport& e = r.carry.equilibrium;
    return fmt::format("step {}  loss {:.4f}  solved {:.0f} %{}  {:.1f} steps/s  {} done, {} left",
                       trainer_.steps(), r.carry.loss,
                       100.0 * static_cast<double>(r.carry.solved) /
                           static_cast<double>(trainer_.options().carry.boards),
                       trainer_.options().carry.equilibrium
                           ? fmt::format("  residual {:.1e} in {:.1f}", e.residual, e.iterations)
                           : "",
                       static_cast<double>(trainer_.steps() - first) / here, duration(elapsed()),
                       duration(left));
  }

  void save() {
    trainer_.seconds = elapsed();
    trainer_.save(checkpoint_);
    trainer_.save_network(network_);
  }

  // Once a step, and not for who has pressed Ctrl-C.
  void validate() {
    if (validation_.empty() || validated_ == trainer_.steps()) return;
    const auto go_on = [](int64_t) { return !interrupted(); };
    if (!go_on(0)) return;
    const optim::AveragedParameters averaged(trainer_.optimiser());
    const auto report = sudoku::evaluate(trainer_.net(), validation_,
                                         {.iterations = {8, 16, 32, 64},
                                          .solve = trainer_.options().carry.equilibrium,
                                          .progress = go_on});
    if (report.puzzles < std::ssize(validation_)) return;
    report_ = report;
    validated_ = trainer_.steps();
    nlohmann::ordered_json line = moment();
    line["validation"] = to_json(*report_);
    if (const auto quality = graph_quality_of(trainer_.net(), validation_))
      line["graph"] = to_json(*quality);
    metrics_.write(line);
    console_.finish();
    fmt::print(stderr, "{} minimal puzzles:", report_->puzzles);
    for (const auto& r : report_->results) {
      fmt::print(stderr, "  {:.0f} % after {}", 100 * r.boards.value, r.iterations);
    }
    fmt::print(stderr, "\n");
  }

  void plot() const {
    if (!command_.plot.empty()) draw_svg(command_.plot, training_charts(metrics_.path()));
  }

  void print_summary() const {
    if (command_.common.json) {
      nlohmann::ordered_json json{{"checkpoint", checkpoint_.string()},
                                  {"steps", trainer_.steps()},
                                  {"seconds", trainer_.seconds},
                                  {"boards", trainer_.boards()},
                                  {"interrupted", interrupted()}};
      if (report_) json["validation"] = to_json(*report_);
      fmt::print("{}\n", json.dump());
    } else {
      fmt::print("{} steps, {} boards, {}; saved {}\n", trainer_.steps(), trainer_.boards(),
                 duration(trainer_.seconds), checkpoint_.string());
    }
  }

  const TrainCommand& command_;
  const fs::path checkpoint_, network_;
  sudoku::Trainer trainer_;
  JsonLines metrics_;
  std::vector<sudoku::Puzzle> validation_;
  std::optional<sudoku::EvaluateReport> report_;
  int64_t validated_ = -1, radii_logged_ = -1;  // after this step
  Progress console_;
  const double seconds_before_;
  const Clock::time_point start_ = Clock::now();
};

}  // namespace

int run_train(const TrainCommand& c) { return Run(c).run(); }

}  // namespace stillpoint::tools
