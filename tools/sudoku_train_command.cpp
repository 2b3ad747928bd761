// sudoku train: the command line that makes a run again.
#include <fmt/format.h>

#include "tools/sudoku_train.h"

namespace stillpoint::tools {
namespace {

std::string regime_arguments(const sudoku::CarryOptions& o) {
  if (const auto& e = o.equilibrium) {
    const bool one_step = e->adjoint == sudoku::AdjointKind::one_step;
    return fmt::format(
        " --solver {} --adjoint {} --tolerance {} --iterations {}{}{}", sudoku::name(e->solver),
        sudoku::name(e->adjoint), e->tolerance, e->iterations,
        one_step ? "" : fmt::format(" --adjoint-iterations {}", e->adjoint_iterations),
        e->jacobian_penalty > 0 ? fmt::format(" --jacobian-penalty {}", e->jacobian_penalty) : "");
  }
  return fmt::format(" --window {}{}", o.window,
                     o.segments == 1 ? "" : fmt::format(" --segments {}", o.segments));
}

}  // namespace

std::string model_options(const sudoku::NetworkOptions& o) {
  if (o.model == sudoku::Model::symbol) return "";
  if (o.model == sudoku::Model::refine) return fmt::format(" --graph {}", sudoku::name(o.wiring));
  const sudoku::LearnedGraphOptions& l = o.learned;
  return fmt::format(
      " --neighbours {} --width {} --law {} --draws {} --entropy {}{}", l.neighbours, l.width,
      sudoku::name(l.law), l.draws, l.entropy,
      l.estimator == sudoku::Estimator::straight_through
          ? " --estimator straight-through"
          : fmt::format(" --baseline {} --credit {} --discount {}", sudoku::name(l.baseline),
                        sudoku::name(l.credit), l.discount));
}

std::string command_line(const TrainCommand& c, const sudoku::TrainOptions& o) {
  const sudoku::Regime regime = sudoku::regime_of(o.carry);
  return fmt::format(
      "sudoku train --model {}{} --regime {} --box {} --channels {} --boards {}{} "
      "--minimal-share {} --optimiser {} --learning-rate {}{}{} --seed {} {}",
      sudoku::name(o.net.model), model_options(o.net), sudoku::name(regime), o.net.geometry.box,
      o.net.channels, o.carry.boards, regime_arguments(o.carry), o.carry.puzzles.minimal_share,
      sudoku::name(o.optimiser), o.learning_rate,
      o.net.precision == sudoku::Precision::bf16 ? " --precision bf16" : "",
      c.from.empty() ? "" : " --from " + c.from, o.seed,
      c.steps > 0 ? fmt::format("--steps {}", c.steps) : fmt::format("--minutes {}", c.minutes));
}

}  // namespace stillpoint::tools
