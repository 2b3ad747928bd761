#include "models/sudoku/graph_learner.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>
#include <vector>

#include "engine/autograd.h"
#include "engine/error.h"
#include "kernels/common/parallel.h"
#include "models/sudoku/generator.h"
#include "models/sudoku/trainer.h"
#include "tests/models/sudoku_graph_learners.h"
#include "tests/support/op_test.h"

namespace stillpoint::sudoku {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

GraphLearner small_net(LearnedGraphOptions learned = {}) {
  Philox random(1);
  return GraphLearner(small(learned), random);
}

TEST(GraphLearner, EncodesDigitsAndDistinctOthers) {
  const GraphLearner net = small_net({.neighbours = 5});
  const Boards boards = some_boards(3);
  const Tensor puzzles = net.encode(boards.givens);
  EXPECT_EQ(puzzles.shape(), (Shape{3, 16, 6}));
  const auto all = puzzles.to_vector<int32_t>();
  for (size_t row = 0; row < 48; ++row) {
    const auto first = all.begin() + static_cast<ptrdiff_t>(6 * row);
    EXPECT_EQ(*first, boards.givens[row / 16][static_cast<int>(row % 16)]);
    const std::set<int32_t> others(first + 1, first + 6);
    EXPECT_EQ(others.size(), 5u);
    EXPECT_FALSE(others.contains(static_cast<int32_t>(row % 16)));
    EXPECT_TRUE(*others.begin() >= 0 && *others.rbegin() < 16);
  }
  EXPECT_EQ(net.encode(boards.givens).to_vector<int32_t>(), all);
}

// Given the rules' graph it is RefineNet.
TEST(GraphLearner, RefinesAsRefineNetOnTheSameGraph) {
  GraphLearner net = small_net();
  const Boards boards = some_boards(3);
  const std::vector<int32_t> rules = peers({2});
  std::vector<int32_t> packed;
  for (const Board& board : boards.givens) {
    for (int cell = 0; cell < 16; ++cell) {
      packed.push_back(board[cell]);
      packed.insert(packed.end(), rules.begin() + 7 * cell, rules.begin() + 7 * cell + 7);
    }
  }
  const Tensor puzzles = Tensor::from(packed, {3, 16, 8});
  Philox random(5);
  const Tensor h = ops::normal({3, 16, 6}, random);
  const Tensor wanted =
      net.refiner.trajectory(h, net.refiner.encode(boards.givens), 4).to(DType::f64);
  test::expect_close(net.trajectory(h, puzzles, 4), wanted, 8, 64, "fused");
  net.options.form = Form::composed;
  test::expect_close(net.trajectory(h, puzzles, 4), wanted, 8, 64, "composed");
}

TEST(GraphLearner, LearnsWithTheCrossEntropyOfItsDraws) {
  const GraphLearner net = small_net({.baseline = Baseline::others_in_batch, .draws = 1});
  const Boards boards = some_boards(4);
  Philox random(9);
  const Tensor h = ops::normal({4, 16, 6}, random);
  const Learned one =
      net.learn({.givens = boards.givens, .h = h, .digits = boards.digits, .steps = 1}, random);
  EXPECT_EQ(one.h.shape(), (Shape{4, 16, 6}));
  EXPECT_EQ(one.logits.shape(), (Shape{4, 16, 4}));
  const Tensor wanted = ops::cross_entropy(one.logits, Tensor::from(boards.digits, {4, 16}));
  EXPECT_NEAR(one.mean, wanted.item(), 1e-6);
}

TEST(GraphLearner, EveryParameterGetsAGradientForEveryLaw) {
  for (const Law law :
       {Law::plackett_luce, Law::ordered_plackett_luce, Law::with_replacement, Law::k_subset}) {
    GraphLearner net = small_net({.law = law, .draws = 3});
    const Boards boards = some_boards(2);
    Philox random(9);
    const Learned learned = net.learn(
        {.givens = boards.givens, .h = net.start(2), .digits = boards.digits, .steps = 3}, random);
    backward(learned.loss);
    for (const auto& [parameter, t] : net.parameters()) {
      ASSERT_TRUE(t.grad().defined()) << parameter;
      const auto g = t.grad().to_vector<float>();
      const auto moved = std::count_if(g.begin(), g.end(), [](float x) { return x != 0; });
      EXPECT_TRUE(std::all_of(g.begin(), g.end(), [](float x) { return std::isfinite(x); }))
          << parameter;
      // A shift of all scores changes nothing: its gradient is rounding alone, or none.
      if (parameter != "key.bias" && !parameter.ends_with(".key.bias")) {
        EXPECT_GT(moved, 0) << name(law) << " " << parameter;
      }
    }
  }
}

// From the start, where all cells are alike, refinement t + 1 of a cell knows of no draw farther
// than t - 1 hops away: the first refinement knows of none, the second of the cell's own.
TEST(GraphLearner, StatesKnowOfDrawsOneRefinementLate) {
  const GraphLearner net = small_net();
  const Boards boards = some_boards(1);
  const auto states = [&](int32_t changed) {
    std::vector<int32_t> packed;
    for (int32_t cell = 0; cell < 16; ++cell) {
      packed.push_back(boards.givens[0][cell]);
      for (int32_t e = 1; e <= 7; ++e)
        packed.push_back((cell + (cell == changed ? 2 : 1) * e) % 16);
    }
    const Tensor puzzles = Tensor::from(packed, {1, 16, 8});
    return net.trajectory(net.start(1), puzzles, 3).to_vector<float>();
  };
  const auto all = states(-1), other = states(5);
  const auto differs = [&](size_t t, size_t cell) {
    const auto first = static_cast<ptrdiff_t>((t * 16 + cell) * 6);
    return !std::equal(all.begin() + first, all.begin() + first + 6, other.begin() + first);
  };
  for (size_t cell = 0; cell < 16; ++cell) {
    EXPECT_FALSE(differs(0, cell)) << cell;
    EXPECT_EQ(differs(1, cell), cell == 5) << cell;
    // Cells 14 to 4 have 5 among the seven that follow them.
    EXPECT_EQ(differs(2, cell), cell >= 14 || cell <= 5) << cell;
  }
}

// Its transformer is made last, of the random numbers that follow, and named without a prefix:
// seeds and files mean what they always have.
TEST(GraphLearner, NamesAndDrawsTheTransformerAsEver) {
  GraphLearner plain = small_net({.layers = 2});
  Philox random(1);
  const GraphLearner none(small({.layers = 0}), random);
  for (size_t b = 0; b < 2; ++b) {
    nn::TransformerBlock block(8, 2, random);
    for (const auto& [parameter, wanted] : tensors(block)) {
      const auto of_net = plain.parameters();
      const std::string full = "blocks." + std::to_string(b) + "." + parameter;
      ASSERT_TRUE(of_net.contains(full)) << full;
      test::expect_same_bits(of_net.at(full), wanted, full);
    }
  }
}

TEST(GraphLearner, LayersCanBeTiedAndRepeated) {
  GraphLearner tied = small_net({.layers = 3, .tying = nn::Tying::tied, .repeats = 2});
  GraphLearner deep = small_net({.layers = 4, .tying = nn::Tying::tied});
  GraphLearner untied = small_net({.layers = 4});
  EXPECT_EQ(tied.parameters().size(), small_net({.layers = 1}).parameters().size());
  for (nn::TransformerBlock& block : untied.transformer.blocks)
    load_tensors(block, tensors(deep.transformer.blocks[0]));
  const Boards boards = some_boards(3);
  const auto wanted = untied.neighbours(boards.givens).to_vector<int32_t>();
  EXPECT_EQ(tied.neighbours(boards.givens).to_vector<int32_t>(), wanted);
  EXPECT_EQ(deep.neighbours(boards.givens).to_vector<int32_t>(), wanted);
  tied.transformer.options.top_repeats = 40;
  EXPECT_NE(tied.neighbours(boards.givens).to_vector<int32_t>(), wanted);
}

TEST(GraphLearner, TrainsTheSameForAnyThreads) {
  const TrainOptions options{
      .net = small(),
      .carry = {.puzzles = {.geometry = {2}}, .boards = 6, .slice = 3, .window = 3, .segments = 1}};
  const auto weights = [&](int threads) {
    kernels::set_num_threads(threads);
    Trainer trainer(options);
    for (int k = 0; k < 3; ++k) trainer.step(0.1);
    return trainer.optimiser().parameters().at("query.weight").to_vector<float>();
  };
  const auto wanted = weights(1);
  EXPECT_EQ(weights(2), wanted);
  EXPECT_EQ(weights(3), wanted);
  kernels::set_num_threads(0);
}

TEST(GraphLearner, QualityCountsEdges) {
  const GraphLearner net = small_net({.neighbours = 3});
  const Boards boards = some_boards(5);
  const auto lists = net.neighbours(boards.givens).to_vector<int32_t>();
  double right = 0, shared = 0, pairs = 0;
  for (size_t row = 0; row < 80; ++row) {
    for (size_t e = 0; e < 3; ++e) {
      const int32_t edge = lists[3 * row + e];
      right += Geometry{2}.same_unit(static_cast<int>(row % 16), edge);
      for (size_t other = row % 16; other < 80; other += 16) {
        if (other == row) continue;
        const auto first = lists.begin() + static_cast<ptrdiff_t>(3 * other);
        shared += std::find(first, first + 3, edge) != first + 3;
        pairs += 1;
      }
    }
  }
  const GraphQuality quality = graph_quality(net, boards.givens);
  EXPECT_DOUBLE_EQ(quality.precision, right / 240);
  EXPECT_DOUBLE_EQ(quality.recall, right / (80 * 7));
  EXPECT_DOUBLE_EQ(quality.stability, shared / pairs);
  ASSERT_EQ(quality.edges.size(), 256u);
  for (size_t cell = 0; cell < 16; ++cell)
    for (int32_t other = 0; other < 16; ++other) {
      double boards_with = 0;
      for (size_t row = cell; row < 80; row += 16)
        boards_with += static_cast<double>(std::count(&lists[3 * row], &lists[3 * row] + 3, other));
      EXPECT_DOUBLE_EQ(quality.edges[16 * cell + static_cast<size_t>(other)], boards_with / 5);
    }
}

TEST(GraphLearner, PenaltyIsTheVarianceOfACellsScores) {
  constexpr double kWeight = 0.5;
  const Boards boards = some_boards(2);
  double losses[2];
  for (const bool with : {false, true}) {
    const GraphLearner net = small_net({.layers = 0, .spread_penalty = with ? kWeight : 0});
    Philox random(7);
    const Lesson lesson{
        .givens = boards.givens, .h = net.start(2), .digits = boards.digits, .steps = 2};
    losses[with] = net.learn(lesson, random).loss.item();
  }
  const GraphLearner net = small_net({.layers = 0});
  const Tensor x = net.norm(net.position.table);  // digits start at 0
  const auto q = net.query(x).to_vector<float>(), k = net.key(x).to_vector<float>();
  double variance = 0;
  for (size_t i = 0; i < 16; ++i) {
    double sum = 0, squares = 0;
    for (size_t j = 0; j < 16; ++j) {
      double score = 0;
      for (size_t c = 0; c < 8; ++c) score += double{q[8 * i + c]} * double{k[8 * j + c]};
      score /= std::sqrt(8.0);
      sum += score / 16;
      squares += score * score / 16;
    }
    variance += (squares - sum * sum) / 16;
  }
  EXPECT_GT(variance, 1e-3);
  EXPECT_NEAR(losses[1] - losses[0], kWeight * variance, 1e-5);
}

TEST(GraphLearner, RefusesWhatIsNotPossible) {
  Philox random(1);
  const auto make = [&](const NetworkOptions& options) {
    return [&random, options] { (void)GraphLearner(options, random); };
  };
  EXPECT_THAT(make(small({.neighbours = 16})),
              ThrowsMessage<OptionError>(HasSubstr("16 neighbours; wanted 1 to 15")));
  EXPECT_THAT(make(small({.draws = 1})), ThrowsMessage<OptionError>(HasSubstr("wanted 2 or more")));
  EXPECT_THROW(make(small({.draws = 0}))(), OptionError);
  EXPECT_THROW(make(small({.entropy = -1}))(), OptionError);
  EXPECT_THROW(make(small({.spread_penalty = -1}))(), OptionError);
  EXPECT_THROW(make(small({.discount = 0}))(), OptionError);
  EXPECT_THROW(make(small({.discount = 1.5}))(), OptionError);
  EXPECT_THROW(make(small({.layers = -1}))(), OptionError);
  EXPECT_THAT(make(small({.repeats = 0})),
              ThrowsMessage<OptionError>(HasSubstr("applied 0 times")));
  EXPECT_THROW(make(small({.layers = 0, .repeats = 2}))(), OptionError);
  NetworkOptions wide = small();
  wide.learned.width = 113;
  EXPECT_THAT(make(wide), ThrowsMessage<OptionError>(HasSubstr("width 113 for 16 cells")));
  NetworkOptions sizeless = small();
  sizeless.geometry.box = 0;
  EXPECT_THROW(make(sizeless)(), ShapeError);
  NetworkOptions large = small();
  large.geometry.box = 4;
  EXPECT_THAT(make(large), ThrowsMessage<OptionError>(HasSubstr("256 cells; wanted fewer")));
  NetworkOptions odd = small();
  odd.learned.width = 9;
  EXPECT_THAT(make(odd), ThrowsMessage<OptionError>(HasSubstr("wanted a multiple of 2")));
  EXPECT_THAT(
      [] {
        Trainer(
            {.net = small(), .carry = {.puzzles = {.geometry = {2}}, .window = 1, .segments = 1}});
      },
      ThrowsMessage<OptionError>(HasSubstr("a window of 1; wanted 2 or more")));
  const GraphLearner net = small_net();
  const Boards boards = some_boards(2);
  const Lesson one{.givens = boards.givens, .h = net.start(2), .digits = boards.digits, .steps = 1};
  EXPECT_THAT([&] { (void)net.learn(one, random); },
              ThrowsMessage<OptionError>(HasSubstr("1 refinements; wanted 2 or more")));
  EXPECT_THAT([] { Trainer({.net = small(), .carry = {.puzzles = {.geometry = {2}}}}); },
              ThrowsMessage<OptionError>(HasSubstr("wanted 1 for a learned graph")));
}

TEST(GraphLearner, SaysWhenAttentionIsNotFinite) {
  GraphLearner net = small_net();
  net.query.bias.fill(std::numeric_limits<double>::quiet_NaN());
  const Boards boards = some_boards(1);
  EXPECT_THAT([&] { (void)net.encode(boards.givens); },
              ThrowsMessage<Error>(HasSubstr("attention is not finite")));
  EXPECT_THAT([&] { (void)net.neighbours(boards.givens); },
              ThrowsMessage<Error>(HasSubstr("attention is not finite")));
  EXPECT_THAT([&] { (void)graph_quality(net, boards.givens); },
              ThrowsMessage<Error>(HasSubstr("attention is not finite")));
}

TEST(GraphLearner, NoBoards) {
  const GraphLearner net = small_net();
  EXPECT_EQ(net.neighbours({}).shape(), (Shape{0, 16, 7}));
  const Tensor puzzles = net.encode({});
  EXPECT_EQ(puzzles.shape(), (Shape{0, 16, 8}));
  EXPECT_EQ(net.refine(net.start(0), puzzles, 3).shape(), (Shape{0, 16, 6}));
  Philox random(1);
  const Lesson none{.givens = {}, .h = net.start(0), .digits = {}, .steps = 3};
  EXPECT_THAT([&] { (void)net.learn(none, random); },
              ThrowsMessage<OptionError>(HasSubstr("no boards")));
  EXPECT_THAT([&] { (void)graph_quality(net, {}); },
              ThrowsMessage<OptionError>(HasSubstr("no boards")));
}

TEST(Wiring, HasTheDegreesItSays) {
  for (const auto& [wiring, degree] :
       {std::pair{Wiring::rules, 7}, {Wiring::random, 7}, {Wiring::complete, 15}}) {
    const Graph graph = wired({2}, wiring);
    EXPECT_EQ(graph.view().degree, degree) << name(wiring);
    const auto all = graph.indices().to_vector<int32_t>();
    for (int cell = 0; cell < 16; ++cell) {
      const auto first = all.begin() + cell * degree;
      const std::set<int32_t> others(first, first + degree);
      EXPECT_EQ(std::ssize(others), degree) << name(wiring);
      EXPECT_FALSE(others.contains(cell)) << name(wiring);
    }
  }
  EXPECT_NE(wired({2}, Wiring::random).indices().to_vector<int32_t>(),
            wired({2}, Wiring::rules).indices().to_vector<int32_t>());
}

}  // namespace
}  // namespace stillpoint::sudoku
