// Networks thought to their end: z* = f(z*, puzzle), where f is one refinement, sought from the
// network's start by engine/implicit/.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "engine/implicit/fixed_point.h"
#include "engine/random.h"
#include "models/sudoku/network.h"

namespace stillpoint::sudoku {

enum class SolverKind : uint8_t { anderson, broyden, damped };
enum class AdjointKind : uint8_t { exact, phantom, one_step, neumann, unrolled_phantom };
enum class AdjointSolverKind : uint8_t { same, anderson, broyden, damped, gmres };
const char* name(SolverKind solver);
const char* name(AdjointKind adjoint);
const char* name(AdjointSolverKind solver);
using implicit::Output;

struct EquilibriumOptions {
  SolverKind solver = SolverKind::anderson;
  AdjointKind adjoint = AdjointKind::exact;
  AdjointSolverKind adjoint_solver = AdjointSolverKind::same;  // of the exact adjoint
  double tolerance = 1e-3;                                     // of the relative residual
  double adjoint_tolerance = 0;  // of the exact adjoint's; 0: as `tolerance`
  int iterations = 30;           // evaluations of f for a board by the solver, at most
  // Of J^T, at most; terms of phantom and neumann; refinements unrolled; unused by one_step.
  int adjoint_iterations = 30;
  // Against collapse (docs/collapse.md).
  Output loss_at = Output::image;
  double jacobian_penalty = 0;  // weight of |J|_F^2 / n in the loss; less than 0 rewards it
  int corrections = 0;          // losses on the way to the fixed point, as far apart as can be
  double start_deviation = 0;   // of normal noise on the starts of every other board
  double path_deviation = 0;    // of such noise before each of the first refinements
  double spectral_clip = 0;     // largest spectral norm of the hidden matrices; 0: any
  double radius_limit = 0;      // the guard holds the radius of J below it; 0: no guard (guard.h)
};

// What goes with a gradient if nothing else is asked for.
int usual_adjoint_iterations(AdjointKind adjoint);
int usual_corrections(AdjointKind adjoint);
// Refinements under noise: a quarter of `iterations`, or none.
int noisy_iterations(const EquilibriumOptions& options);
// Throws OptionError.
void check_options(const EquilibriumOptions& options);
implicit::FixedPointOptions fixed_point_options(const EquilibriumOptions& options, Model model);

// f: one refinement of states, given what encode() made of their puzzles.
implicit::Map refinement(const Network& net);

struct FixedPointLesson {
  // Where the loss is read; only the loss to be differentiated includes corrections and the
  // weighted penalty.
  Learned learned;
  std::shared_ptr<const implicit::Report> report;  // of the adjoint after the backward only
  double penalty = 0;                              // |J|_F^2 / n, without its weight
  // [boards] evaluations of f before the report's begin: those under noise, and the solver's up to
  // the last correction.
  std::vector<int> evaluations_before;
};
// Seeks the fixed points from lesson.h; lesson.steps are not looked at. `random` is for noise on
// the starts and on the path, and for the penalty's probes.
//
// Path noise (Huang, Geng, Kolter: "Equilibrium reasoners", 2026): before each of the first
// noisy_iterations() evaluations, which are then plain ones and come out of `iterations`, noise is
// added to the states of every other board. The solver begins after them, so that its history and
// its residuals are of f alone, and what it finds is a fixed point in spite of the noise.
//
// A correction is a loss at an iterate on the way ("fixed point correction", Bai and others: "Deep
// equilibrium optical flow estimation", CVPR 2022), with a phantom gradient, or with unrolled
// refinements if the adjoint is that: no fixed point is there to be differentiated. With n
// corrections the solver begins anew after each (n + 1)-th of the iterations, and the loss is the
// mean of n + 1.
FixedPointLesson learn_fixed_points(const Network& net, const Lesson& lesson,
                                    const EquilibriumOptions& options, Philox& random);

// What the solves of some boards did: means over the boards.
struct EquilibriumReport {
  double iterations = 0;          // evaluations of f, those before corrections included
  double unconverged = 0;         // share of the boards
  double residual = 0;            // relative, of the iterate that is taken
  double adjoint_iterations = 0;  // the same for the solve of an exact adjoint
  double adjoint_unconverged = 0;
  double penalty = 0;  // |J|_F^2 / n, without its weight

  // Adds one lesson whose every board counts `weight`.
  void add(const FixedPointLesson& lesson, double weight);
};

// What a board's fixed point, or the best iterate of a solve that failed, is like.
struct Stability {
  double radius = 0;    // |lambda| of the leading eigenvalue of J there; NaN if J is not finite
  double residual = 0;  // relative
};
// From the network's own start.
std::vector<Stability> stability(const Network& net, std::span<const Board> givens,
                                 const EquilibriumOptions& options);

}  // namespace stillpoint::sudoku
