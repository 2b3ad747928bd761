// sudoku train: the run.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "engine/build_info.h"
#include "engine/error.h"
#include "kernels/common/parallel.h"
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
    sudoku::Trainer trainer = sudoku::Trainer::load(checkpoint, c.common.device, c.precision);
    check_precision(trainer.options().net.precision);
    return trainer;
  }
  check<OptionError>(!there, "--output {}: holds a run already; take another folder, or --resume",
                     c.output);
  check_precision(c.train.net.precision);
  std::error_code error;
  fs::create_directories(c.output, error);
  check<IoError>(!error, "--output {}: {}", c.output, error.message());
  sudoku::Trainer trainer(c.train, c.common.device);
  if (!c.from.empty()) trainer.start_from(c.from);
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
    if (!c.resume) log_run();
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
    while (progress() < 1 && !interrupted()) {
      const sudoku::TrainReport report = trainer_.step(progress());
      if (trainer_.steps() % 10 == 0) log_step(report);
      console_.show([&] { return status(report, first); });
      if (elapsed() - saved >= command_.save_every) {
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

  // Of the whole run, earlier parts included.
  double progress() const {
    if (command_.steps > 0) {
      return static_cast<double>(trainer_.steps()) / static_cast<double>(command_.steps);
    }
    return elapsed() / (60 * command_.minutes);
  }

  void log_run() {
    const sudoku::TrainOptions& o = trainer_.options();
    nlohmann::ordered_json run{
        {"version", build_info().version},    {"device", name(command_.common.device)},
        {"threads", kernels::num_threads()},  {"seed", o.seed},
        {"model", sudoku::name(o.net.model)}, {"model_options", model_options(o.net)},
        {"box", o.net.geometry.box},          {"channels", o.net.channels},
        {"boards", o.carry.boards},           {"window", o.carry.window},
        {"segments", o.carry.segments},       {"minimal_share", o.carry.puzzles.minimal_share},
        {"learning_rate", o.learning_rate},   {"precision", sudoku::name(o.net.precision)}};
    if (const auto& e = o.carry.equilibrium) {
      run.erase("window");
      run.update({{"solver", sudoku::name(e->solver)},
                  {"adjoint", sudoku::name(e->adjoint)},
                  {"tolerance", e->tolerance},
                  {"iterations", e->iterations},
                  {"adjoint_iterations", e->adjoint_iterations},
                  {"jacobian_penalty", e->jacobian_penalty}});
    }
    metrics_.write({{"run", run}});
  }

  void log_step(const sudoku::TrainReport& r) {
    const auto boards = static_cast<double>(trainer_.options().carry.boards);
    nlohmann::ordered_json line{{"step", trainer_.steps()},
                                {"seconds", elapsed()},
                                {"loss", r.carry.loss},
                                {"solved", static_cast<double>(r.carry.solved) / boards},
                                {"gradient_norm", r.gradient_norm},
                                {"learning_rate", r.learning_rate},
                                {"boards", trainer_.boards()}};
    if (r.draws) {
      line["draws_gradient_variance"] = r.draws->variance;
      line["draws_signal_to_noise"] = r.draws->signal_to_noise;
    }
    if (trainer_.options().carry.equilibrium) {
      const sudoku::EquilibriumReport& e = r.carry.equilibrium;
      line.update({{"iterations", e.iterations},
                   {"unconverged", e.unconverged},
                   {"residual", e.residual},
                   {"adjoint_iterations", e.adjoint_iterations},
                   {"adjoint_unconverged", e.adjoint_unconverged},
                   {"jacobian_penalty", e.penalty}});
    }
    metrics_.write(line);
  }

  // Of the weights as they are trained, not of their averages.
  void log_radii() {
    const auto& e = trainer_.options().carry.equilibrium;
    if (!e || validation_.empty() || radii_logged_ == trainer_.steps()) return;
    std::vector<sudoku::Board> boards;
    for (size_t b = 0; b < std::min<size_t>(8, validation_.size()); ++b)
      boards.push_back(validation_[b].givens);
    metrics_.write({{"step", trainer_.steps()},
                    {"seconds", trainer_.seconds},
                    {"radii", sudoku::spectral_radii(trainer_.net(), boards, *e)}});
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
    trainer_.save_network(network_, command_line(command_, trainer_.options()));
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
    nlohmann::ordered_json line{{"step", trainer_.steps()},
                                {"seconds", trainer_.seconds},
                                {"validation", to_json(*report_)}};
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
