// sudoku train: the options of --regime equilibrium.
#include <algorithm>

#include "engine/error.h"
#include "tools/sudoku_train.h"
#include "tools/support/options.h"

namespace stillpoint::tools {

using sudoku::AdjointKind;
using sudoku::AdjointSolverKind;
using sudoku::EquilibriumOptions;
using sudoku::Output;
using sudoku::usual_adjoint_iterations;
using sudoku::usual_corrections;

template <class T>
void EquilibriumArguments::add(CLI::Option* option, T EquilibriumOptions::*member) {
  options_.emplace_back(option,
                        [this, member](EquilibriumOptions& o) { o.*member = values_.*member; });
}

void EquilibriumArguments::add_to(CLI::App& app) {
  EquilibriumOptions& o = values_;
  add(add_solver(app, o.solver,
                 "equilibrium: solver of the fixed points and of the exact adjoint: anderson,\n"
                 "broyden or damped (plain iteration). This option and those up to\n"
                 "--radius-limit also with --resume, from there on [anderson]"),
      &EquilibriumOptions::solver);
  add(add_choice<AdjointKind>(
          app, "--adjoint", o.adjoint,
          {{"exact", AdjointKind::exact},
           {"phantom", AdjointKind::phantom},
           {"one-step", AdjointKind::one_step},
           {"neumann", AdjointKind::neumann},
           {"unrolled-phantom", AdjointKind::unrolled_phantom}},
          "equilibrium: gradient: exact, approximated (phantom, one-step or neumann), or\n"
          "that of refinements behind the solve (unrolled-phantom) [unrolled-phantom]"),
      &EquilibriumOptions::adjoint);
  add(add_choice<AdjointSolverKind>(
          app, "--adjoint-solver", o.adjoint_solver,
          {{"same", AdjointSolverKind::same},
           {"anderson", AdjointSolverKind::anderson},
           {"broyden", AdjointSolverKind::broyden},
           {"damped", AdjointSolverKind::damped},
           {"gmres", AdjointSolverKind::gmres}},
          "equilibrium: solver of --adjoint exact: as --solver (same), anderson, broyden,\n"
          "damped or gmres [same]"),
      &EquilibriumOptions::adjoint_solver);
  add(add_choice<Output>(
          app, "--loss-at", o.loss_at, {{"image", Output::image}, {"iterate", Output::iterate}},
          "equilibrium: where the loss is read: image, one refinement behind what the solve\n"
          "found, or iterate, at that itself, which brings collapse on (docs/collapse.md)\n"
          "[image]"),
      &EquilibriumOptions::loss_at);
  add(app.add_option("--tolerance", o.tolerance,
                     "equilibrium: relative residual at which solves stop")
          ->capture_default_str(),
      &EquilibriumOptions::tolerance);
  add(app.add_option("--adjoint-tolerance", o.adjoint_tolerance,
                     "equilibrium: that of --adjoint exact; 0: as --tolerance")
          ->capture_default_str(),
      &EquilibriumOptions::adjoint_tolerance);
  add(add_number(app, "--iterations", o.iterations,
                 "equilibrium: refinements of a board by the solver, at most"),
      &EquilibriumOptions::iterations);
  add(add_number(
          app, "--adjoint-iterations", o.adjoint_iterations,
          "equilibrium: products with the Jacobian, at most; terms of phantom and\n"
          "neumann; refinements of unrolled-phantom; --resume with another --adjoint keeps a\n"
          "number other than its default [exact: 30, others: 5]")
          ->default_str(""),
      &EquilibriumOptions::adjoint_iterations);
  add(app.add_option(
             "--jacobian-penalty", o.jacobian_penalty,
             "equilibrium: weight of the Jacobian's size |J|^2 / n in the loss; a negative\n"
             "one rewards it, to see what comes of that")
          ->capture_default_str(),
      &EquilibriumOptions::jacobian_penalty);
  add(add_number(app, "--corrections", o.corrections,
                 "equilibrium: losses on the way to the fixed point besides; --resume as with\n"
                 "--adjoint-iterations [unrolled-phantom: 1, others: 0]",
                 0)
          ->default_str(""),
      &EquilibriumOptions::corrections);
  add(app.add_option("--start-deviation", o.start_deviation,
                     "equilibrium: of noise on the starts of every other board")
          ->capture_default_str(),
      &EquilibriumOptions::start_deviation);
  add(app.add_option(
             "--path-deviation", o.path_deviation,
             "equilibrium: of noise on the states of every other board before each of the first\n"
             "quarter of --iterations, which are plain ones; then the solver begins")
          ->capture_default_str(),
      &EquilibriumOptions::path_deviation);
  add(app.add_option("--spectral-clip", o.spectral_clip,
                     "equilibrium: largest spectral norm of a matrix between hidden layers; 0: any")
          ->capture_default_str(),
      &EquilibriumOptions::spectral_clip);
  add(app.add_option(
             "--radius-limit", o.radius_limit,
             "equilibrium: a guard looks at four boards in every tenth step. Where the spectral\n"
             "radius of the Jacobian is about to be above this, or the residual above 30\n"
             "tolerances, it raises the weight of the Jacobian penalty by a quarter, else it\n"
             "lowers it by a fifth, within 0.03, or --jacobian-penalty if that is more, and 3.\n"
             "That may come too late; 0: no guard")
          ->capture_default_str(),
      &EquilibriumOptions::radius_limit);
}

std::vector<const CLI::Option*> EquilibriumArguments::given() const {
  std::vector<const CLI::Option*> given;
  for (const auto& [option, set] : options_)
    if (option->count() > 0) given.push_back(option);
  return given;
}

void EquilibriumArguments::apply(EquilibriumOptions& o) const {
  const auto given = [this](const char* name) {
    return std::any_of(options_.begin(), options_.end(), [name](const auto& option) {
      return option.first->get_name() == name && option.first->count() > 0;
    });
  };
  // What serves a solve is too much for a sum of terms, and the other way round.
  const bool iterations_were_usual = o.adjoint_iterations == usual_adjoint_iterations(o.adjoint);
  const bool corrections_were_usual = o.corrections == usual_corrections(o.adjoint);
  for (const auto& [option, set] : options_)
    if (option->count() > 0) set(o);
  const bool unrolled = o.adjoint == AdjointKind::unrolled_phantom;
  check<OptionError>(o.adjoint != AdjointKind::one_step || !given("--adjoint-iterations"),
                     "--adjoint-iterations {}: one-step takes none", o.adjoint_iterations);
  for (const char* name : {"--adjoint-solver", "--adjoint-tolerance"})
    check<OptionError>(o.adjoint == AdjointKind::exact || !given(name),
                       "{}: wanted with --adjoint exact only", name);
  check<OptionError>(!unrolled || !given("--loss-at") || o.loss_at == Output::image,
                     "--loss-at iterate: wanted with another --adjoint than unrolled-phantom, "
                     "whose refinements the loss is read behind");
  if (unrolled) o.loss_at = Output::image;
  if (!given("--adjoint-iterations") && iterations_were_usual)
    o.adjoint_iterations = usual_adjoint_iterations(o.adjoint);
  if (!given("--corrections") && corrections_were_usual)
    o.corrections =
        std::clamp(o.iterations - noisy_iterations(o) - 1, 0, usual_corrections(o.adjoint));
}

}  // namespace stillpoint::tools
