// GraphLearner learns the rules' graph: the recipe for 4x4 of docs/learned-graph.md.
#include <gtest/gtest.h>

#include <vector>

#include "engine/optim/adamw.h"
#include "kernels/common/parallel.h"
#include "models/sudoku/evaluate.h"
#include "models/sudoku/generator.h"
#include "models/sudoku/graph_learner.h"
#include "models/sudoku/trainer.h"

namespace stillpoint::sudoku {
namespace {

TEST(GraphLearnerRecipe, LearnsTheRulesGraphOf4x4) {
  kernels::set_num_threads(1);  // threads that wait for each other starve on a busy machine
  constexpr int64_t kSteps = 600;
  CarryOptions carry = carry_options(Regime::unroll);
  carry.puzzles = {.geometry = {2}};  // minimal ones
  carry.boards = 16;
  carry.slice = default_slice(Model::learned_graph, Regime::unroll, Device::cpu);
  carry.window = 6;
  Trainer trainer({.net = {.model = Model::learned_graph, .geometry = {2}, .channels = 32},
                   .carry = carry,
                   .learning_rate = 5e-3});
  for (int64_t step = 0; step < kSteps; ++step)
    trainer.step(static_cast<double>(step) / static_cast<double>(kSteps));
  const optim::AveragedParameters averaged(trainer.optimiser());

  std::vector<Board> givens;
  std::vector<Puzzle> puzzles;
  const GeneratorOptions unseen{.geometry = {2}, .seed = 999, .use = PuzzleUse::evaluation};
  for (const auto& made : generate(unseen, 0, 100)) {
    givens.push_back(made.givens);
    puzzles.push_back({made.givens, made.solution});
  }
  const auto& net = dynamic_cast<const GraphLearner&>(trainer.net());
  EXPECT_GE(graph_quality(net, givens).precision, 0.95);
  EXPECT_GE(evaluate(net, puzzles, {.iterations = {12}}).results[0].boards.value, 0.95);
}

}  // namespace
}  // namespace stillpoint::sudoku
