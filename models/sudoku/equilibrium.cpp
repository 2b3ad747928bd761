#include "models/sudoku/equilibrium.h"

#include <cmath>
#include <iterator>
#include <utility>

#include "engine/autograd.h"
#include "engine/error.h"
#include "engine/implicit/spectrum.h"
#include "engine/implicit/stability.h"
#include "engine/ops.h"
#include "kernels/common/parallel.h"

namespace stillpoint::sudoku {
namespace {

template <class To>
To solver_of(SolverKind kind) {
  switch (kind) {
    case SolverKind::anderson:
      // Of f the way to a solution is a search, and only its end is linear (docs/equilibrium.md).
      if constexpr (std::is_same_v<To, implicit::Solver>) return implicit::Anderson{.begin = 0.01};
      return implicit::Anderson{};
    case SolverKind::broyden:
      return implicit::Broyden{};
    case SolverKind::damped:
      return implicit::Damped{};
  }
  return {};
}

implicit::AdjointSolver adjoint_solver_of(const EquilibriumOptions& o) {
  switch (o.adjoint_solver) {
    case AdjointSolverKind::same:
      return solver_of<implicit::AdjointSolver>(o.solver);
    case AdjointSolverKind::anderson:
      return implicit::Anderson{};
    case AdjointSolverKind::broyden:
      return implicit::Broyden{};
    case AdjointSolverKind::damped:
      return implicit::Damped{};
    case AdjointSolverKind::gmres:
      return implicit::Gmres{};
  }
  return {};
}

// A board's step with Anderson touches 1.3 MB of SymbolNet, 0.4 of RefineNet: few boards keep them
// near; fewer take longer, since an application has costs of its own
// (docs/equilibrium.md). Boards do not see each other.
int64_t boards_at_a_time(Model model) {
  return (model == Model::symbol ? 2 : 4) * kernels::num_threads();
}

implicit::Adjoint adjoint_of(const EquilibriumOptions& o, Model model) {
  switch (o.adjoint) {
    case AdjointKind::exact:
      return implicit::Exact{
          .solver = adjoint_solver_of(o),
          .stopping = {.tolerance = o.adjoint_tolerance != 0 ? o.adjoint_tolerance : o.tolerance,
                       .max_iterations = o.adjoint_iterations,
                       .at_a_time = boards_at_a_time(model)}};
    case AdjointKind::phantom:
      return implicit::PhantomGradient{.steps = o.adjoint_iterations};
    case AdjointKind::one_step:
      return implicit::OneStep{};
    case AdjointKind::neumann:
      return implicit::Neumann{.terms = o.adjoint_iterations};
    case AdjointKind::unrolled_phantom:
      return implicit::UnrolledPhantomGradient{.steps = o.adjoint_iterations};
  }
  return {};
}

// |df/dz|_F^2 / n at z, estimated and differentiable. From single ops: the fused ones have no
// second derivative.
Tensor jacobian_penalty(const Network& net, const Tensor& z, const Tensor& puzzles,
                        Philox& random) {
  const implicit::Map f = [&net](const Tensor& h, std::span<const Tensor> x) {
    return net.refine_once(h, x[0]);
  };
  return implicit::jacobian_penalty(f, z, {puzzles}, random);
}

// With noise on every other board: a network that sees both kinds of state learns to forget it.
Tensor noisy(const Tensor& states, double deviation, Philox& random) {
  if (deviation == 0) return states;
  std::vector<float> chosen;
  for (int64_t b = 0; b < states.dim(0); ++b)
    chosen.insert(chosen.end(), static_cast<size_t>(states.dim(1)), static_cast<float>(b % 2));
  const Tensor mask = Tensor::from(chosen, {states.dim(0), states.dim(1), 1}).to(states.device());
  const Tensor noise = ops::normal(states.shape(), random, 0.0, deviation, states.options());
  return ops::add(states.detach(), ops::mul(noise, mask));
}

// Where the solver begins: after the refinements under noise.
Tensor disturbed_start(const Network& net, const Tensor& start, const Tensor& puzzles,
                       const EquilibriumOptions& options, Philox& random) {
  const NoGrad no_grad;
  Tensor z = noisy(start, options.start_deviation, random);
  for (int k = 0; k < noisy_iterations(options); ++k)
    z = net.refine(noisy(z, options.path_deviation, random), puzzles);
  return z;
}

}  // namespace

const char* name(SolverKind solver) {
  switch (solver) {
    case SolverKind::anderson:
      return "anderson";
    case SolverKind::broyden:
      return "broyden";
    case SolverKind::damped:
      return "damped";
  }
  return "";
}

const char* name(AdjointKind adjoint) {
  switch (adjoint) {
    case AdjointKind::exact:
      return "exact";
    case AdjointKind::phantom:
      return "phantom";
    case AdjointKind::one_step:
      return "one-step";
    case AdjointKind::neumann:
      return "neumann";
    case AdjointKind::unrolled_phantom:
      return "unrolled-phantom";
  }
  return "";
}

const char* name(AdjointSolverKind solver) {
  switch (solver) {
    case AdjointSolverKind::same:
      return "same";
    case AdjointSolverKind::anderson:
      return "anderson";
    case AdjointSolverKind::broyden:
      return "broyden";
    case AdjointSolverKind::damped:
      return "damped";
    case AdjointSolverKind::gmres:
      return "gmres";
  }
  return "";
}

int usual_adjoint_iterations(AdjointKind adjoint) { return adjoint == AdjointKind::exact ? 30 : 5; }
int usual_corrections(AdjointKind adjoint) {
  return adjoint == AdjointKind::unrolled_phantom ? 1 : 0;
}

int noisy_iterations(const EquilibriumOptions& o) {
  return o.path_deviation == 0 ? 0 : o.iterations / 4;
}

void check_options(const EquilibriumOptions& o) {
  implicit::check_options(fixed_point_options(o, Model::symbol));
  check<OptionError>(std::isfinite(o.jacobian_penalty),
                     "equilibrium: a Jacobian penalty of {}; wanted a finite number",
                     o.jacobian_penalty);
  const int noisy = noisy_iterations(o);
  check<OptionError>(o.corrections >= 0 && o.corrections < o.iterations - noisy,
                     "equilibrium: {} corrections within {} iterations, of which {} are under "
                     "noise; wanted 0 or more, and fewer than the others",
                     o.corrections, o.iterations, noisy);
  check<OptionError>(o.path_deviation == 0 || noisy > 0,
                     "equilibrium: noise on the path with {} iterations; wanted 4 or more, as a "
                     "quarter of them is under noise",
                     o.iterations);
  for (const auto& [what, value] : {std::pair{"noise on starts", o.start_deviation},
                                    {"noise on the path", o.path_deviation},
                                    {"spectral clip", o.spectral_clip},
                                    {"limit of the radius", o.radius_limit}})
    check<OptionError>(value >= 0 && std::isfinite(value),
                       "equilibrium: {} of {}; wanted 0 or more", what, value);
  check<OptionError>(o.radius_limit == 0 || o.jacobian_penalty >= 0,
                     "equilibrium: a Jacobian penalty of {} and a limit of the radius; wanted 0 or "
                     "more, as the guard moves it",
                     o.jacobian_penalty);
}

implicit::FixedPointOptions fixed_point_options(const EquilibriumOptions& options, Model model) {
  return {.solver = solver_of<implicit::Solver>(options.solver),
          .forward = {.tolerance = options.tolerance,
                      .max_iterations = options.iterations,
                      .at_a_time = boards_at_a_time(model)},
          .adjoint = adjoint_of(options, model),
          .output = options.loss_at};
}

implicit::Map refinement(const Network& net) {
  return [&net](const Tensor& z, std::span<const Tensor> x) { return net.refine(z, x[0]); };
}

FixedPointLesson learn_fixed_points(const Network& net, const Lesson& lesson,
                                    const EquilibriumOptions& options, Philox& random) {
  const Tensor x = net.encode(lesson.givens);
  const std::vector<int32_t> digits(lesson.digits.begin(), lesson.digits.end());
  const Tensor targets =
      Tensor::from(digits, {lesson.h.dim(0), std::ssize(digits) / lesson.h.dim(0)})
          .to(net.device());
  implicit::FixedPointOptions solve = fixed_point_options(options, net.options.model);
  const int under_noise = noisy_iterations(options);
  solve.forward.max_iterations -= under_noise;
  const int stretch = solve.forward.max_iterations / (options.corrections + 1);
  Tensor start = disturbed_start(net, lesson.h, x, options, random);
  Tensor corrections;
  FixedPointLesson fixed;
  fixed.evaluations_before.resize(static_cast<size_t>(lesson.h.dim(0)), under_noise);
  for (int k = 0; k < options.corrections; ++k) {
    implicit::FixedPointOptions part = solve;
    part.forward.max_iterations = stretch;
    if (options.adjoint != AdjointKind::unrolled_phantom)
      part.adjoint = implicit::PhantomGradient{};
    const auto solved = implicit::fixed_point(refinement(net), start, {x}, part);
    start = solved.z;
    for (size_t b = 0; b < fixed.evaluations_before.size(); ++b)
      fixed.evaluations_before[b] += solved.report->forward.samples[b].iterations();
    const Tensor loss = ops::cross_entropy(net.logits(start), targets);
    corrections = k == 0 ? loss : ops::add(corrections, loss);
  }
  solve.forward.max_iterations -= options.corrections * stretch;
  const auto [z, report] = implicit::fixed_point(refinement(net), start, {x}, solve);
  const Tensor logits = net.logits(z);
  Tensor loss = ops::cross_entropy(logits, targets);
  fixed.learned = {.loss = loss, .mean = loss.item(), .h = z, .logits = logits};
  fixed.report = report;
  if (options.corrections > 0)
    loss = ops::affine(ops::add(loss, corrections), 1.0 / (options.corrections + 1));
  if (options.jacobian_penalty != 0) {
    const Tensor penalty = jacobian_penalty(net, z, x, random);
    fixed.penalty = penalty.item();
    loss = ops::add(loss, ops::affine(penalty, options.jacobian_penalty));
  }
  fixed.learned.loss = loss;
  return fixed;
}

void EquilibriumReport::add(const FixedPointLesson& lesson, double weight) {
  for (size_t b = 0; b < lesson.evaluations_before.size(); ++b) {
    const implicit::SampleReport& board = lesson.report->forward.samples[b];
    iterations += weight * (lesson.evaluations_before[b] + board.iterations());
    unconverged += board.converged() ? 0 : weight;
    residual += weight * board.residual;
  }
  if (!lesson.report->adjoint) return;
  for (const implicit::SampleReport& board : lesson.report->adjoint->samples) {
    adjoint_iterations += weight * board.iterations();
    adjoint_unconverged += board.converged() ? 0 : weight;
  }
}

std::vector<Stability> stability(const Network& net, std::span<const Board> givens,
                                 const EquilibriumOptions& options) {
  const NoGrad no_grad;
  const implicit::Map f = refinement(net);
  const Tensor x = net.encode(givens);
  const Tensor start = net.start(static_cast<int64_t>(givens.size()));
  const auto [z, report] =
      implicit::fixed_point(f, start, {x}, fixed_point_options(options, net.options.model));
  const std::vector<implicit::SampleSpectrum> spectra = implicit::leading_spectrum(f, z, {x});
  std::vector<Stability> all;
  for (size_t b = 0; b < spectra.size(); ++b)
    all.push_back({spectra[b].radius(), report->forward.samples[b].residual});
  return all;
}

}  // namespace stillpoint::sudoku
