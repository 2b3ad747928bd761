#include "models/sudoku/evaluate.h"

#include <gtest/gtest.h>

#include <vector>

#include "engine/autograd.h"
#include "engine/error.h"
#include "models/sudoku/answer.h"
#include "models/sudoku/generator.h"
#include "models/sudoku/graph_learner.h"
#include "models/sudoku/symbol_net.h"
#include "tests/models/sudoku_graph_learners.h"

namespace stillpoint::sudoku {
namespace {

std::vector<Puzzle> puzzles(int count, int box = 2) {
  std::vector<Puzzle> list;
  for (const auto& made : generate({.geometry = {box}, .use = PuzzleUse::evaluation}, 0, count)) {
    list.push_back({made.givens, made.solution});
  }
  return list;
}

SymbolNet untrained() {
  Philox random(1);
  return SymbolNet({.geometry = {2}, .channels = 8}, random);
}

TEST(Proportion, IsWilsonsInterval) {
  // Reference values: the interval's closed form, evaluated by hand to four places.
  const Proportion most = proportion(8, 10);
  EXPECT_DOUBLE_EQ(most.value, 0.8);
  EXPECT_NEAR(most.low, 0.4902, 1e-4);
  EXPECT_NEAR(most.high, 0.9433, 1e-4);
  EXPECT_NEAR(proportion(0, 10).high, 0.2775, 1e-4);
  EXPECT_EQ(proportion(0, 10).low, 0);
  EXPECT_NEAR(proportion(250, 250).low, 0.9849, 1e-4);
  EXPECT_EQ(proportion(250, 250).high, 1);
  EXPECT_EQ(proportion(0, 0).high, 1);
}

TEST(Evaluate, CountsWhatTheNetworkAnswers) {
  // A puzzle whose "solution" is the network's own answer is right; one cell changed, it is not.
  const SymbolNet net = untrained();
  std::vector<Puzzle> list = puzzles(2);
  for (Puzzle& puzzle : list) {
    const NoGrad no_grad;
    const Tensor x = net.encode(std::span(&puzzle.givens, 1));
    const Tensor logits = net.logits(net.refine(net.start(1), x));
    puzzle.solution = read_answers(logits, std::span(&puzzle.givens, 1))[0].board;
  }
  (*list[1].solution)[7] = static_cast<uint8_t>((*list[1].solution)[7] % 4 + 1);
  const EvaluateReport report = evaluate(net, list, {.iterations = {1}});
  ASSERT_EQ(report.results.size(), 1u);
  EXPECT_EQ(report.puzzles, 2);
  EXPECT_DOUBLE_EQ(report.results[0].boards.value, 0.5);
  EXPECT_DOUBLE_EQ(report.results[0].cells, 31.0 / 32);
}

TEST(Evaluate, BatchesDoNotMatter) {
  const SymbolNet net = untrained();
  const auto list = puzzles(7);
  const auto one = evaluate(net, list, {.iterations = {1, 5}, .batch = 3});
  const auto all = evaluate(net, list, {.iterations = {1, 5}, .batch = 100});
  for (int k = 0; k < 2; ++k) {
    EXPECT_EQ(one.results[k].cells, all.results[k].cells);
    EXPECT_EQ(one.results[k].boards.value, all.results[k].boards.value);
  }
}

TEST(Evaluate, StopsWhenToldTo) {
  const auto report =
      evaluate(untrained(), puzzles(7),
               {.iterations = {1}, .batch = 2, .progress = [](int64_t done) { return done < 4; }});
  EXPECT_EQ(report.puzzles, 4);
}

TEST(Evaluate, RefusesWhatItCannotMeasure) {
  const SymbolNet net = untrained();
  EXPECT_THROW(evaluate(net, puzzles(1, 3)), ShapeError);
  EXPECT_THROW(evaluate(net, std::vector<Puzzle>{{Board{.geometry = {2}}, {}}}), OptionError);
  EXPECT_THROW(evaluate(net, puzzles(1), {.iterations = {8, 8}}), OptionError);
  EXPECT_THROW(evaluate(net, puzzles(1), {.iterations = {0}}), OptionError);
  EXPECT_THROW(evaluate(net, puzzles(1), {.batch = 0}), OptionError);
}

TEST(Evaluate, AveragesOverDrawnGraphs) {
  Philox random(1);
  const GraphLearner net(small({.neighbours = 5}), random);
  const std::vector<Puzzle> some = puzzles(5);
  EvaluateOptions options{.iterations = {1, 4}, .batch = 5, .graphs = 3, .graphs_seed = 7};
  const EvaluateReport together = evaluate(net, some, options);
  options.batch = 2;
  const EvaluateReport apart = evaluate(net, some, options);
  // By hand: each graph refined alone.
  const NoGrad no_grad;
  double peers = 0;
  for (size_t k = 0; k < options.iterations.size(); ++k) {
    int64_t right = 0;
    for (size_t b = 0; b < some.size(); ++b) {
      Philox draws(7, b);
      const Tensor x = net.encode_drawn(some[b].givens, 3, draws);
      const auto graphs = x.to_vector<int32_t>();
      for (size_t row = 0; row < 3 * 16; ++row)
        for (size_t e = 1; e <= 5; ++e)
          peers += Geometry{2}.same_unit(static_cast<int>(row % 16), graphs[6 * row + e]);
      const auto p = ops::softmax(net.logits(net.refine(net.start(3), x, options.iterations[k])))
                         .to_vector<float>();
      for (size_t cell = 0; cell < 16; ++cell) {
        const auto of = [&](size_t digit) {
          const size_t at = 4 * cell + digit;
          return p[at] + p[64 + at] + p[128 + at];
        };
        int best = 0;
        for (int d = 1; d < 4; ++d)
          if (of(static_cast<size_t>(d)) > of(static_cast<size_t>(best))) best = d;
        right += best + 1 == (*some[b].solution)[static_cast<int>(cell)];
      }
    }
    EXPECT_NEAR(together.results[k].cells, static_cast<double>(right) / 80, 1e-12);
    EXPECT_EQ(together.results[k].cells, apart.results[k].cells);
  }
  EXPECT_DOUBLE_EQ(together.drawn_precision.value(), peers / (2 * 5 * 3 * 16 * 5));
  EXPECT_EQ(together.drawn_precision, apart.drawn_precision);
  EXPECT_FALSE(evaluate(net, some, {.iterations = {1}}).drawn_precision.has_value());
}

TEST(Evaluate, DrawsGraphsOfNetworksThatLearnThemAlone) {
  const std::vector<Puzzle> some = puzzles(1);
  EXPECT_THROW(evaluate(untrained(), some, {.graphs = 2}), OptionError);
  Philox random(1);
  const GraphLearner net(small(), random);
  EXPECT_THROW(evaluate(net, some, {.graphs = -1}), OptionError);
  EXPECT_THROW(evaluate(net, some, {.restarts = {.tries = 2}, .graphs = 2}), OptionError);
  EXPECT_THROW(evaluate(net, some, {.solve = EquilibriumOptions{}, .graphs = 2}), OptionError);
}

}  // namespace
}  // namespace stillpoint::sudoku
