// sudoku train: what is written down of a run.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "engine/build_info.h"
#include "kernels/common/parallel.h"
#include "models/sudoku/options_json.h"
#include "tools/sudoku_train.h"

namespace stillpoint::tools {
namespace {

// What a model has of its own.
std::string model_options(const sudoku::NetworkOptions& o) {
  if (o.model == sudoku::Model::symbol) return "";
  if (o.model == sudoku::Model::refine) return fmt::format(" --graph {}", sudoku::name(o.wiring));
  const sudoku::LearnedGraphOptions& l = o.learned;
  return fmt::format(
      "{} --width {} --layers {}{}{} --law {} --draws {} --entropy {} --spread-penalty {}{}",
      l.neighbours == 0 ? "" : fmt::format(" --neighbours {}", l.neighbours), l.width, l.layers,
      l.tying == nn::Tying::tied ? " --tied" : "",
      l.repeats == 1 ? "" : fmt::format(" --repeats {}", l.repeats), sudoku::name(l.law), l.draws,
      l.entropy, l.spread_penalty,
      l.estimator == sudoku::Estimator::straight_through
          ? " --estimator straight-through"
          : fmt::format(" --baseline {} --credit {} --discount {}", sudoku::name(l.baseline),
                        sudoku::name(l.credit), l.discount));
}

std::string equilibrium_arguments(const sudoku::EquilibriumOptions& e) {
  std::string text =
      fmt::format(" --solver {} --adjoint {} --tolerance {} --iterations {}",
                  sudoku::name(e.solver), sudoku::name(e.adjoint), e.tolerance, e.iterations);
  const auto add = [&text](const char* option, const auto& value, bool wanted) {
    if (wanted) text += fmt::format(" {} {}", option, value);
  };
  add("--adjoint-iterations", e.adjoint_iterations, e.adjoint != sudoku::AdjointKind::one_step);
  const bool exact = e.adjoint == sudoku::AdjointKind::exact;
  add("--adjoint-solver", sudoku::name(e.adjoint_solver),
      exact && e.adjoint_solver != sudoku::AdjointSolverKind::same);
  add("--loss-at", name(e.loss_at), e.loss_at != sudoku::Output::image);
  add("--adjoint-tolerance", e.adjoint_tolerance, exact && e.adjoint_tolerance != 0);
  add("--jacobian-penalty", e.jacobian_penalty, e.jacobian_penalty != 0);
  add("--corrections", e.corrections, e.corrections != sudoku::usual_corrections(e.adjoint));
  add("--start-deviation", e.start_deviation, e.start_deviation != 0);
  add("--path-deviation", e.path_deviation, e.path_deviation != 0);
  add("--spectral-clip", e.spectral_clip, e.spectral_clip != 0);
  add("--radius-limit", e.radius_limit, e.radius_limit != 0);
  return text;
}

std::string regime_arguments(const sudoku::CarryOptions& o) {
  if (o.equilibrium) return equilibrium_arguments(*o.equilibrium);
  return fmt::format(" --window {}{}", o.window,
                     o.segments == 1 ? "" : fmt::format(" --segments {}", o.segments));
}

}  // namespace

nlohmann::ordered_json run_record(const sudoku::TrainOptions& o, Device device) {
  nlohmann::ordered_json run{{"version", build_info().version},
                             {"device", name(device)},
                             {"threads", kernels::num_threads()},
                             {"seed", o.seed},
                             {"model", sudoku::name(o.net.model)},
                             {"model_options", model_options(o.net)},
                             {"box", o.net.geometry.box},
                             {"channels", o.net.channels},
                             {"boards", o.carry.boards},
                             {"window", o.carry.window},
                             {"segments", o.carry.segments},
                             {"hard_share", o.carry.puzzles.hard_share},
                             {"minimal_share", o.carry.puzzles.minimal_share},
                             {"optimiser", sudoku::name(o.optimiser)},
                             {"learning_rate", o.learning_rate},
                             {"precision", sudoku::name(o.net.precision)}};
  if (const auto& e = o.carry.equilibrium) {
    run.erase("window");
    run.update(sudoku::to_json(*e));
  }
  return run;
}

nlohmann::ordered_json step_record(const sudoku::Trainer& trainer, double seconds, int64_t bytes,
                                   const sudoku::TrainReport& r) {
  const auto boards = static_cast<double>(trainer.options().carry.boards);
  nlohmann::ordered_json line{{"step", trainer.steps()},
                              {"seconds", seconds},
                              {"cpu_seconds", trainer.cpu_seconds},
                              {"bytes", bytes},
                              {"loss", r.carry.loss},
                              {"solved", static_cast<double>(r.carry.solved) / boards},
                              {"gradient_norm", r.gradient_norm},
                              {"learning_rate", r.learning_rate},
                              {"boards", trainer.boards()}};
  if (r.draws) {
    line["draws_gradient_variance"] = r.draws->variance;
    line["draws_signal_to_noise"] = r.draws->signal_to_noise;
  }
  if (trainer.options().carry.equilibrium) {
    const sudoku::EquilibriumReport& e = r.carry.equilibrium;
    line.update({{"iterations", e.iterations},
                 {"unconverged", e.unconverged},
                 {"residual", e.residual},
                 {"adjoint_iterations", e.adjoint_iterations},
                 {"adjoint_unconverged", e.adjoint_unconverged},
                 {"jacobian_penalty", e.penalty}});
  }
  if (r.guard) line.update({{"guard_radius", r.guard->radius}, {"guard_weight", r.guard->weight}});
  return line;
}

std::string as_given(const std::vector<const CLI::Option*>& options) {
  std::string text;
  for (const CLI::Option* option : options)
    text += fmt::format(" {} {}", option->get_name(), fmt::join(option->results(), " "));
  return text;
}

std::string command_line(const TrainCommand& c, const sudoku::TrainOptions& o) {
  const sudoku::Regime regime = sudoku::regime_of(o.carry);
  return fmt::format(
      "sudoku train --model {}{} --regime {} --box {} --channels {} --boards {}{}{} "
      "--minimal-share {} --optimiser {} --learning-rate {}{}{} --seed {}",
      sudoku::name(o.net.model), model_options(o.net), sudoku::name(regime), o.net.geometry.box,
      o.net.channels, o.carry.boards, regime_arguments(o.carry),
      o.carry.puzzles.hard_share > 0 ? fmt::format(" --hard-share {}", o.carry.puzzles.hard_share)
                                     : "",
      o.carry.puzzles.minimal_share, sudoku::name(o.optimiser), o.learning_rate,
      o.net.precision == sudoku::Precision::bf16 ? " --precision bf16" : "",
      // Where the file lay says nothing elsewhere.
      c.from.empty() ? ""
                     : " --from " + std::filesystem::path(c.from).filename().string() +
                           (c.fresh_refiner ? " --fresh-refiner" : ""),
      o.seed);
}

}  // namespace stillpoint::tools
