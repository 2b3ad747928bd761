// Evaluation by a solver of fixed points.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "engine/error.h"
#include "models/sudoku/answer.h"
#include "models/sudoku/equilibrium.h"
#include "models/sudoku/evaluate.h"
#include "models/sudoku/restarts.h"
#include "models/sudoku/trainer.h"
#include "tests/models/sudoku_equilibrium_networks.h"

namespace stillpoint::sudoku {
namespace {

// Every parameter in one row, by name.
// Trained a little, so that boards differ in how long they take.
Trainer trained() {
  Trainer trainer(
      options4(Model::symbol, {.adjoint = AdjointKind::phantom, .adjoint_iterations = 5}));
  for (int k = 0; k < 40; ++k) trainer.step(0);
  return trainer;
}

TEST(SolveEvaluation, CountsEveryCapAsIfItStoodAlone) {
  const Trainer trainer = trained();
  const auto puzzles = puzzles4(12);
  const EquilibriumOptions solve{.tolerance = 1e-2};
  const auto all =
      evaluate(trainer.net(), puzzles, {.iterations = {3, 6, 12, 60}, .batch = 5, .solve = solve});
  double before = 0;
  for (const IterationResult& r : all.results) {
    const auto alone = evaluate(trainer.net(), puzzles,
                                {.iterations = {r.iterations}, .batch = 12, .solve = solve});
    EXPECT_EQ(alone.results[0].boards.value, r.boards.value);
    EXPECT_EQ(alone.results[0].cells, r.cells);
    EXPECT_EQ(alone.results[0].solve->evaluations, r.solve->evaluations);
    EXPECT_DOUBLE_EQ(alone.results[0].solve->residual, r.solve->residual);
    EXPECT_EQ(alone.results[0].solve->unconverged, r.solve->unconverged);
    EXPECT_LE(r.solve->evaluations, r.iterations);
    EXPECT_GE(r.solve->evaluations, before);
    before = r.solve->evaluations;
  }
  EXPECT_EQ(all.results[0].solve->unconverged, 1);  // all of them count at the cap
  EXPECT_EQ(all.results[0].solve->evaluations, 3);
  EXPECT_LT(all.results[3].solve->unconverged, 1);
  EXPECT_LT(all.results[3].solve->evaluations, 60);
}

TEST(SolveEvaluation, OfSeveralTriesTheLeastResidualCounts) {
  const Trainer trainer = trained();
  const Network& net = trainer.net();
  const auto puzzles = puzzles4(12);
  const std::vector<Board> givens = givens_of(puzzles);
  const EquilibriumOptions solve{.tolerance = 1e-4, .iterations = 10};
  const RestartOptions restarts{.tries = 4, .deviation = 1};
  std::vector<double> least(12, 1e9);
  std::vector<Board> picked(12);
  std::vector<int64_t> numbers(12);
  for (size_t b = 0; b < 12; ++b) numbers[b] = static_cast<int64_t>(b);
  const NoGrad no_grad;
  for (int attempt = 0; attempt < 4; ++attempt) {
    const auto [z, report] =
        implicit::fixed_point(refinement(net), start_try(net, numbers, attempt, restarts),
                              {net.encode(givens)}, fixed_point_options(solve, net.options.model));
    const std::vector<Answer> answers = read_answers(net.logits(z), givens);
    for (size_t b = 0; b < 12; ++b) {
      if (report->forward.samples[b].residual >= least[b]) continue;
      least[b] = report->forward.samples[b].residual;
      picked[b] = answers[b].board;
    }
  }
  int64_t cells = 0;
  double residual = 0;
  for (size_t b = 0; b < 12; ++b) {
    residual += least[b] / 12;
    for (int cell = 0; cell < 16; ++cell) cells += picked[b][cell] == (*puzzles[b].solution)[cell];
  }
  const auto many =
      evaluate(net, puzzles, {.iterations = {10}, .restarts = restarts, .solve = solve});
  EXPECT_EQ(many.results[0].cells, static_cast<double>(cells) / (12 * 16));
  EXPECT_NEAR(many.results[0].solve->residual, residual, 1e-12);
  EXPECT_GT(many.results[0].solve->evaluations, 20);  // of all tries
  const auto once = evaluate(net, puzzles, {.iterations = {10}, .solve = solve});
  EXPECT_LT(many.results[0].solve->residual, once.results[0].solve->residual);
}

TEST(SolveEvaluation, RefusesWhatNoSolverTakes) {
  const Trainer trainer(options4());
  EXPECT_THROW(evaluate(trainer.net(), {}, {.solve = EquilibriumOptions{.tolerance = 2}}),
               OptionError);
  const auto none = evaluate(trainer.net(), {}, {.iterations = {4}, .solve = EquilibriumOptions{}});
  EXPECT_EQ(none.results[0].solve->evaluations, 0);
}

}  // namespace
}  // namespace stillpoint::sudoku
