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
enum class AdjointKind : uint8_t { exact, phantom, one_step, neumann };
const char* name(SolverKind solver);
const char* name(AdjointKind adjoint);

struct EquilibriumOptions {
  SolverKind solver = SolverKind::anderson;  // of the fixed point, and of the exact adjoint
  AdjointKind adjoint = AdjointKind::exact;
  double tolerance = 1e-3;      // of the relative residual, in both solves
  int iterations = 30;          // evaluations of f for a board, at most
  int adjoint_iterations = 30;  // of J^T, at most; terms of phantom and neumann; unused by one_step
  double jacobian_penalty = 0;  // weight of |J|_F^2 / n in the loss
};

// Throws OptionError.
void check_options(const EquilibriumOptions& options);
implicit::FixedPointOptions fixed_point_options(const EquilibriumOptions& options);

// f: one refinement of states, given what encode() made of their puzzles.
implicit::Map refinement(const Network& net);

struct FixedPointLesson {
  Learned learned;  // at the fixed points; its loss includes the weighted penalty
  std::shared_ptr<const implicit::Report> report;  // of the adjoint after the backward only
  double penalty = 0;                              // |J|_F^2 / n, without its weight
};
// Seeks the fixed points from lesson.h; lesson.steps are not looked at. `random` is for the
// penalty's probes.
FixedPointLesson learn_fixed_points(const Network& net, const Lesson& lesson,
                                    const EquilibriumOptions& options, Philox& random);

// What the solves of some boards did: means over the boards.
struct EquilibriumReport {
  double iterations = 0;          // evaluations of f
  double unconverged = 0;         // share of the boards
  double residual = 0;            // relative, of the iterate that is taken
  double adjoint_iterations = 0;  // the same for the solve of an exact adjoint
  double adjoint_unconverged = 0;
  double penalty = 0;  // |J|_F^2 / n, without its weight

  // Adds one solve whose every board counts `weight`.
  void add(const implicit::Report& report, double weight);
};

// |lambda| of the leading eigenvalue of J at each board's fixed point.
std::vector<double> spectral_radii(const Network& net, std::span<const Board> givens,
                                   const EquilibriumOptions& options);

}  // namespace stillpoint::sudoku
