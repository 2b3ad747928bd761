// How GraphLearner's gradients pass the draws, and what its training reports.
#include <gmock/gmock.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <functional>

#include "engine/autograd.h"
#include "engine/sampling.h"
#include "models/sudoku/drawn_graph.h"
#include "models/sudoku/generator.h"
#include "models/sudoku/graph_learner.h"
#include "models/sudoku/trainer.h"
#include "tests/models/sudoku_graph_learners.h"
#include "tests/support/op_test.h"

namespace stillpoint::sudoku {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

// Against the tape, with the graph as a matrix of weights.
TEST(GraphLearner, EdgeSlopesAreTheDerivativesByTheWeightsOfEdges) {
  constexpr int64_t kRuns = 4, kCells = 16, kChannels = 6;
  Philox random(1);
  const GraphLearner net(small(), random);
  const Boards boards = some_boards(2);
  std::vector<int32_t> values;
  for (const Board& board : boards.givens)
    for (int twice = 0; twice < 2; ++twice)
      for (const int32_t v : values_of({&board, 1})) values.push_back(v);
  const Tensor lists = test::random_indices({kRuns, kCells, 3}, kCells, 7);
  const Tensor h = ops::normal({kRuns, kCells, kChannels}, random);
  const Tensor got = net.edge_slopes(h, packed(values, lists), boards.digits, 2);

  std::vector<float> counts(static_cast<size_t>(kRuns * kCells * kCells));
  const auto all = lists.to_vector<int32_t>();
  for (size_t e = 0; e < all.size(); ++e) counts[e / 3 * kCells + static_cast<size_t>(all[e])] += 1;
  const Tensor weights = Tensor::from(counts, {kRuns, kCells, kCells, 1}).set_requires_grad();
  // The rows of every pair of cells, side by side.
  std::vector<int32_t> of_i, of_j;
  for (int64_t run = 0; run < kRuns; ++run)
    for (int64_t i = 0; i < kCells; ++i)
      for (int64_t j = 0; j < kCells; ++j) {
        of_i.push_back(static_cast<int32_t>(run * kCells + i));
        of_j.push_back(static_cast<int32_t>(run * kCells + j));
      }
  const auto pairs = [&](const Tensor& x, const std::vector<int32_t>& rows) {
    return ops::embedding(ops::reshape(x, {kRuns * kCells, kChannels}),
                          Tensor::from(rows, {kRuns, kCells, kCells}));
  };
  const Tensor message =
      ops::relu(ops::add(pairs(net.refiner.receiver(h), of_i), pairs(net.refiner.sender(h), of_j)));
  const Tensor heard = ops::sum(ops::mul(message, weights), 2);
  const Tensor next =
      ops::gru_cell(ops::add(net.refiner.given(Tensor::from(values, {kRuns, kCells})),
                             net.refiner.message(heard)),
                    net.refiner.state(h), h);
  std::vector<int32_t> targets;  // of the runs
  for (size_t run = 0; run < kRuns; ++run)
    for (size_t cell = 0; cell < kCells; ++cell)
      targets.push_back(boards.digits[run / 2 * kCells + cell]);
  const Tensor mean = ops::cross_entropy(net.logits(next), Tensor::from(targets, {kRuns, kCells}));
  const Tensor wanted = vjp(ops::affine(mean, kRuns * kCells), weights, Tensor::full({}, 1.0));
  test::expect_close(got, ops::reshape(wanted, got.shape()).to(DType::f64), 16, 64, "slopes");
}

TEST(GraphLearner, StraightThroughReachesEveryParameter) {
  Philox random(9);
  for (const int64_t steps : {2, 3}) {
    GraphLearner net(small({.estimator = Estimator::straight_through, .draws = 1}), random);
    const Boards boards = some_boards(2);
    const Learned learned = net.learn(
        {.givens = boards.givens, .h = net.start(2), .digits = boards.digits, .steps = steps},
        random);
    backward(learned.loss);
    for (const auto& [parameter, t] : net.parameters()) {
      if (parameter.ends_with("key.bias")) continue;  // a shift of all scores changes nothing
      ASSERT_TRUE(t.grad().defined()) << parameter;
      const auto g = t.grad().to_vector<float>();
      EXPECT_TRUE(std::all_of(g.begin(), g.end(), [](float x) { return std::isfinite(x); }));
      EXPECT_TRUE(std::any_of(g.begin(), g.end(), [](float x) { return x != 0; })) << parameter;
    }
  }
}

// The refiner's gradient is the costs' own, whatever passes the draws.
TEST(GraphLearner, EstimatorsLeaveTheRefinersGradientAlone) {
  const auto gradient = [](LearnedGraphOptions learned) {
    learned.draws = 2;
    Philox weights(1), random(9);
    GraphLearner net(small(learned), weights);
    const Boards boards = some_boards(3);
    backward(
        net.learn({.givens = boards.givens, .h = net.start(3), .digits = boards.digits, .steps = 3},
                  random)
            .loss);
    return std::pair{net.refiner.message.weight.grad().to_vector<float>(),
                     net.query.weight.grad().to_vector<float>()};
  };
  const auto score = gradient({});
  const auto straight = gradient({.estimator = Estimator::straight_through});
  const auto all_costs = gradient({.credit = Credit::all});
  EXPECT_EQ(straight.first, score.first);
  EXPECT_EQ(all_costs.first, score.first);
  EXPECT_NE(straight.second, score.second);
  EXPECT_NE(all_costs.second, score.second);
}

Tensor repeated(const Tensor& h, int64_t draws) {
  std::vector<int32_t> boards;
  for (int64_t run = 0; run < h.dim(0) * draws; ++run)
    boards.push_back(static_cast<int32_t>(run / draws));
  const Tensor flat = ops::reshape(h, {h.dim(0), h.dim(1) * h.dim(2)});
  const Tensor rows = ops::embedding(flat, Tensor::from(boards, {std::ssize(boards)}));
  return ops::reshape(rows, {std::ssize(boards), h.dim(1), h.dim(2)});
}

double difference(const std::vector<float>& a, const std::vector<float>& b) {
  double squares = 0, length = 0;
  for (size_t e = 0; e < a.size(); ++e) {
    const double x = static_cast<double>(a[e]), y = static_cast<double>(b[e]);
    squares += (x - y) * (x - y);
    length += y * y;
  }
  return std::sqrt(squares / length);
}

// `learn` is the surrogate of its own draws with each of the options: without any one of them, or
// with another sign, the gradient is another.
TEST(GraphLearner, LearnsByTheSurrogateOfItsDraws) {
  constexpr int64_t kBoards = 4, kDraws = 3, kSteps = 4, kCells = 16, kNeighbours = 3;
  const stochastic::SurrogateOptions options{
      .baseline = Baseline::others_of_board, .draws = kDraws, .entropy = 0.002, .discount = 0.5};
  Philox weights(1);
  GraphLearner net(small({.neighbours = kNeighbours,
                          .baseline = options.baseline,
                          .draws = kDraws,
                          .entropy = options.entropy,
                          .discount = options.discount,
                          .spread_penalty = 0}),
                   weights);
  const Boards boards = some_boards(kBoards);
  std::vector<int32_t> values;  // of the runs
  std::vector<float> wanted;    // one-hot
  for (size_t run = 0; run < kBoards * kDraws; ++run) {
    for (const int32_t v : values_of({&boards.givens[run / kDraws], 1})) values.push_back(v);
    for (size_t cell = 0; cell < kCells; ++cell)
      for (int32_t digit = 0; digit < 4; ++digit)
        wanted.push_back(boards.digits[run / kDraws * kCells + cell] == digit ? 1.f : 0.f);
  }
  const Tensor one_hot = Tensor::from(wanted, {kBoards * kDraws, kCells, 4});
  // Of the weights that draw and of those that refine.
  const auto gradients = [&](const Tensor& loss) {
    for (auto& [parameter, t] : net.parameters()) Tensor(t).set_grad({});
    backward(loss);
    return std::array{net.query.weight.grad().to_vector<float>(),
                      net.refiner.message.weight.grad().to_vector<float>()};
  };
  const auto by_hand = [&](const Tensor& h, int64_t late, double sign,
                           const stochastic::SurrogateOptions& o) {
    const Tensor digits = Tensor::from(values_of(boards.givens), {kBoards, kCells});
    const Tensor x = net.norm(net.transformer(ops::add(net.digit(digits), net.position.table)));
    const Tensor scores =
        ops::affine(attention_scores(net.query(x), net.key(x)), 1 / std::sqrt(8.0));
    Philox random(9);
    const auto drawn =
        sample(ops::add(scores, net.self_score), KSubset{kNeighbours, kDraws}, random);
    const Tensor states =
        net.trajectory(repeated(h, kDraws), packed(values, drawn.indices), kSteps);
    const Tensor log_p = ops::log(ops::softmax(net.logits(states)));
    const Tensor costs = ops::affine(ops::sum(ops::mul(log_p, one_hot), -1), -1);
    return gradients(
        stochastic::surrogate_loss(costs,
                                   {{.log_prob = ops::affine(score(drawn), sign),
                                     .hops = stochastic::hops(drawn.indices, kSteps - 1, late)}},
                                   o));
  };
  Philox states(5);
  for (const int64_t late : {1, 0}) {  // all cells alike, or none
    const Tensor h =
        late == 1 ? net.start(kBoards).detach() : ops::normal({kBoards, kCells, 6}, states);
    Philox random(9);
    const auto got = gradients(
        net.learn({.givens = boards.givens, .h = h, .digits = boards.digits, .steps = kSteps},
                  random)
            .loss);
    const auto same = by_hand(h, late, 1, options);
    EXPECT_LT(difference(got[0], same[0]), 1e-4) << late;
    EXPECT_LT(difference(got[1], same[1]), 1e-4) << late;
    const auto differs = [&](const char* what, int64_t with_late, double sign,
                             const std::function<void(stochastic::SurrogateOptions&)>& change) {
      stochastic::SurrogateOptions other = options;
      change(other);
      EXPECT_GT(difference(got[0], by_hand(h, with_late, sign, other)[0]), 0.02) << what << late;
    };
    const auto nothing = [](auto&) {};
    differs("sign", late, -1, nothing);
    differs("late", 1 - late, 1, nothing);
    differs("baseline", late, 1, [](auto& o) { o.baseline = Baseline::none; });
    differs("other baseline", late, 1, [](auto& o) { o.baseline = Baseline::others_in_batch; });
    differs("entropy", late, 1, [](auto& o) { o.entropy = 0; });
    differs("sign of the entropy", late, 1, [](auto& o) { o.entropy *= -1; });
    differs("discount", late, 1, [](auto& o) { o.discount = 1; });
  }
}

TrainOptions options4() {
  return {
      .net = small({.neighbours = 4, .draws = 2}),
      .carry = {.puzzles = {.geometry = {2}}, .boards = 8, .slice = 4, .window = 3, .segments = 1}};
}

// Two slices of a step against the same boards in single steps: each gradient, of what draws by
// itself, is half of the estimate e_s, and the variance that of e_1 and e_2.
TEST(Trainer, ReportsHowMuchTheGradientOfDrawsVaries) {
  TrainOptions options = options4();
  CarryPool pool(options.carry);
  Philox random(options.seed, ~uint64_t{1});  // as the trainer's
  const auto net = make_network(options.net, random);
  std::vector<std::vector<double>> sums;
  pool.step(*net, [&] {
    auto& sum = sums.emplace_back();
    for (const auto& [name, p] : net->parameters()) {
      if (name.starts_with("refiner.") || !p.grad().defined()) continue;
      for (const float g : p.grad().to_vector<float>()) sum.push_back(static_cast<double>(g));
    }
  });
  ASSERT_EQ(sums.size(), 2u);
  double variance = 0, length = 0;
  for (size_t e = 0; e < sums[1].size(); ++e) {
    const double first = 2 * sums[0][e], second = 2 * (sums[1][e] - sums[0][e]);
    variance += (first - second) * (first - second) / 2;
    length += sums[1][e] * sums[1][e];
  }
  Trainer trainer(options);
  const TrainReport report = trainer.step(0, MeasureDraws::yes);
  ASSERT_TRUE(report.draws.has_value());
  EXPECT_NEAR(report.draws->variance, variance, 1e-6 * variance);
  EXPECT_NEAR(report.draws->signal_to_noise,
              std::sqrt(std::max(0.0, length - variance / 2) / variance), 1e-4);
  EXPECT_FALSE(trainer.step(0).draws.has_value());  // nobody asked
  options.carry.slice = 8;
  EXPECT_FALSE(Trainer(options).step(0, MeasureDraws::yes).draws.has_value());
}

TEST(Trainer, StartsFromTheWeightsOfAnother) {
  const auto path =
      std::filesystem::temp_directory_path() / ("stillpoint_from_" + std::to_string(getpid()));
  TrainOptions options = options4();
  Trainer first(options);
  first.step(0);
  first.save_network(path);
  options.seed = 2;
  options.net.learned.estimator = Estimator::straight_through;
  options.net.learned.draws = 1;
  options.carry.window = 5;
  Trainer second(options);
  second.start_from(path);
  EXPECT_EQ(second.optimiser().parameters().at("query.weight").to_vector<float>(),
            first.optimiser().averages().at("query.weight").to_vector<float>());
  EXPECT_EQ(second.net().options.learned.estimator, Estimator::straight_through);
  second.step(0);
  EXPECT_THROW(second.start_from(path), OptionError);

  options.seed += 1;  // other weights to begin with
  Trainer fresh(options);
  const auto parameter = [](const Trainer& t, const char* name) {
    return t.optimiser().parameters().at(name).to_vector<float>();
  };
  const auto own = parameter(fresh, "refiner.message.weight");
  fresh.start_from(path, true);
  EXPECT_EQ(parameter(fresh, "refiner.message.weight"), own);
  EXPECT_EQ(parameter(fresh, "query.weight"),
            first.optimiser().averages().at("query.weight").to_vector<float>());
  options.net.channels = 7;
  Trainer wider(options);
  EXPECT_THAT([&] { wider.start_from(path); },
              ThrowsMessage<FormatError>(HasSubstr(path.string())));
  options.net.model = Model::refine;
  Trainer other(options);
  EXPECT_THAT([&] { other.start_from(path); },
              ThrowsMessage<FormatError>(HasSubstr("a network learned-graph; wanted refine")));
  std::filesystem::remove(path);
}

// Resumed runs keep how their gradients pass the draws.
TEST(Trainer, SavesEstimatorAndCredit) {
  const auto path =
      std::filesystem::temp_directory_path() / ("stillpoint_estimator_" + std::to_string(getpid()));
  TrainOptions options = options4();
  options.net.learned.estimator = Estimator::straight_through;
  options.net.learned.credit = Credit::all;
  Trainer(options).save(path);
  const Trainer resumed = Trainer::load(path);
  EXPECT_EQ(resumed.options().net.learned.estimator, Estimator::straight_through);
  EXPECT_EQ(resumed.options().net.learned.credit, Credit::all);
  std::filesystem::remove(path);
}

}  // namespace
}  // namespace stillpoint::sudoku
