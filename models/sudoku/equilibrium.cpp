#include "models/sudoku/equilibrium.h"

#include <cmath>

#include "engine/autograd.h"
#include "engine/error.h"
#include "engine/implicit/spectrum.h"
#include "engine/implicit/stability.h"
#include "engine/ops.h"

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

implicit::Adjoint adjoint_of(const EquilibriumOptions& o) {
  switch (o.adjoint) {
    case AdjointKind::exact:
      return implicit::Exact{
          .solver = solver_of<implicit::AdjointSolver>(o.solver),
          .stopping = {.tolerance = o.tolerance, .max_iterations = o.adjoint_iterations}};
    case AdjointKind::phantom:
      return implicit::PhantomGradient{.steps = o.adjoint_iterations};
    case AdjointKind::one_step:
      return implicit::OneStep{};
    case AdjointKind::neumann:
      return implicit::Neumann{.terms = o.adjoint_iterations};
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
  }
  return "";
}

void check_options(const EquilibriumOptions& options) {
  implicit::check_options(fixed_point_options(options));
  check<OptionError>(options.jacobian_penalty >= 0 && std::isfinite(options.jacobian_penalty),
                     "equilibrium: a Jacobian penalty of {}; wanted 0 or more",
                     options.jacobian_penalty);
}

implicit::FixedPointOptions fixed_point_options(const EquilibriumOptions& options) {
  return {.solver = solver_of<implicit::Solver>(options.solver),
          .forward = {.tolerance = options.tolerance, .max_iterations = options.iterations},
          .adjoint = adjoint_of(options)};
}

implicit::Map refinement(const Network& net) {
  return [&net](const Tensor& z, std::span<const Tensor> x) { return net.refine(z, x[0]); };
}

FixedPointLesson learn_fixed_points(const Network& net, const Lesson& lesson,
                                    const EquilibriumOptions& options, Philox& random) {
  const Tensor x = net.encode(lesson.givens);
  const auto [z, report] =
      implicit::fixed_point(refinement(net), lesson.h, {x}, fixed_point_options(options));
  const Tensor logits = net.logits(z);
  const std::vector<int32_t> digits(lesson.digits.begin(), lesson.digits.end());
  const Tensor targets = Tensor::from(digits, {logits.dim(0), logits.dim(1)}).to(net.device());
  const Tensor loss = ops::cross_entropy(logits, targets);
  FixedPointLesson fixed{{.loss = loss, .mean = loss.item(), .h = z, .logits = logits}, report};
  if (options.jacobian_penalty > 0) {
    const Tensor penalty = jacobian_penalty(net, z, x, random);
    fixed.penalty = penalty.item();
    fixed.learned.loss = ops::add(loss, ops::affine(penalty, options.jacobian_penalty));
  }
  return fixed;
}

void EquilibriumReport::add(const implicit::Report& report, double weight) {
  for (const implicit::SampleReport& board : report.forward.samples) {
    iterations += weight * board.iterations();
    unconverged += board.converged() ? 0 : weight;
    residual += weight * board.residual;
  }
  if (!report.adjoint) return;
  for (const implicit::SampleReport& board : report.adjoint->samples) {
    adjoint_iterations += weight * board.iterations();
    adjoint_unconverged += board.converged() ? 0 : weight;
  }
}

std::vector<double> spectral_radii(const Network& net, std::span<const Board> givens,
                                   const EquilibriumOptions& options) {
  const NoGrad no_grad;
  const implicit::Map f = refinement(net);
  const Tensor x = net.encode(givens);
  const Tensor start = net.start(static_cast<int64_t>(givens.size()));
  const Tensor z = implicit::fixed_point(f, start, {x}, fixed_point_options(options)).z;
  std::vector<double> radii;
  for (const auto& spectrum : implicit::leading_spectrum(f, z, {x}))
    radii.push_back(spectrum.radius());
  return radii;
}

}  // namespace stillpoint::sudoku
