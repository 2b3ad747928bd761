// Every estimator of the gradient against the exact one, for problems so small that all outcomes
// can be added up: the mean over many batches, in one joint test of all coordinates whose false-
// alarm rate is 1e-3. The same test at the same size must find planted errors.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <string>

#include "engine/ops.h"
#include "engine/sampling.h"
#include "engine/stochastic/surrogate.h"
#include "tests/engine/stochastic/exact_gradient.h"

namespace stillpoint::stochastic {
namespace {

// ---- estimators --------------------------------------------------------------------------------

enum class Score : uint8_t { ordered, set, with_replacement, subset, one_order };
enum class Downstream : uint8_t { all, within_hops, own_alone };
enum class Start : uint8_t { apart, alike };
enum class Planted : uint8_t { nothing, mean_of_all, too_late };

struct Estimator {
  const char* name;
  Score score = Score::ordered;
  Downstream downstream = Downstream::within_hops;
  Baseline baseline = Baseline::none;
  int64_t draws = 1;
  double entropy = 0;
  double discount = 1;
  Start start = Start::apart;
  Planted planted = Planted::nothing;

  Drawing drawing() const {
    return score == Score::with_replacement ? Drawing::with_replacement
           : score == Score::subset         ? Drawing::subset
           : score == Score::set            ? Drawing::in_turn_as_sets
                                            : Drawing::in_turn;
  }
  // From nodes that are alike three refinements, of which the first knows of no draw.
  Objective objective() const {
    if (start == Start::apart) return {.entropy = entropy, .discount = discount};
    return {.entropy = entropy, .discount = discount, .boards = kAlike, .steps = 3};
  }
};

// Scores of row i are row i of q: keys are the unit vectors, which undo the 1 / sqrt(width).
Tensor unit_keys(int64_t runs, int64_t keys) {
  std::vector<float> values(static_cast<size_t>(runs * keys * keys));
  for (int64_t row = 0; row < runs * keys; ++row)
    values[static_cast<size_t>(row * keys + row % keys)] = std::sqrt(static_cast<float>(keys));
  return Tensor::from(values, {runs, keys, keys});
}

// The planted error "set without its k! orders": the probability that the keys are drawn in
// ascending order, taken for the probability that they are drawn.
Tensor one_order_score(const Tensor& q, const Tensor& indices) {
  const int64_t rows = indices.numel() / kDraws;
  std::vector<int32_t> picks = indices.to_vector<int32_t>();
  const Tensor flat = ops::reshape(q, {rows, kNodes});
  Tensor score = Tensor::zeros({rows});
  for (int64_t t = 0; t < kDraws; ++t) {
    std::vector<float> taken(static_cast<size_t>(rows * kNodes)), remaining(taken.size(), 1.f);
    for (int64_t row = 0; row < rows; ++row) {
      const auto first = picks.begin() + row * kDraws;
      std::sort(first, first + kDraws);
      taken[static_cast<size_t>(row * kNodes + first[t])] = 1;
      for (int64_t u = 0; u < t; ++u) remaining[static_cast<size_t>(row * kNodes + first[u])] = 0;
    }
    const Tensor mass =
        ops::sum(ops::mul(ops::exp(flat), Tensor::from(remaining, {rows, kNodes})), -1);
    const Tensor of_taken = ops::sum(ops::mul(flat, Tensor::from(taken, {rows, kNodes})), -1);
    score = ops::add(score, ops::sub(of_taken, ops::log(mass)));
  }
  return ops::reshape(score, {rows / kNodes, kNodes});
}

// The costs of every run, [steps, runs, nodes]; run r is a draw for board r / draws.
Tensor costs_of_runs(const Tensor& indices, int64_t draws, const Objective& o) {
  // Most of the time otherwise.
  static std::map<const Board*, std::map<Choice, Vector>> known;
  const auto picks = indices.to_vector<int32_t>();
  const int64_t runs = indices.dim(0);
  std::vector<float> costs(static_cast<size_t>(o.steps * runs * kNodes));
  for (int64_t r = 0; r < runs; ++r) {
    Choice choice;
    for (int64_t i = 0; i < kNodes; ++i) {
      const auto first = picks.begin() + (r * kNodes + i) * kDraws;
      choice.emplace_back(first, first + kDraws);
      std::sort(choice.back().begin(), choice.back().end());
    }
    const Board& board = o.boards[static_cast<size_t>(r / draws)];
    Vector& of_run = known[&board][choice];
    if (of_run.empty()) of_run = costs_of(board, o.steps, choice);
    for (int64_t t = 0; t < o.steps; ++t)
      std::copy_n(of_run.begin() + t * kNodes, kNodes, costs.begin() + (t * runs + r) * kNodes);
  }
  return Tensor::from(costs, {o.steps, runs, kNodes});
}

// Costs less the mean of all runs, their own among them.
Tensor less_the_mean_of_all(const Tensor& costs) {
  const int64_t runs = costs.dim(1);
  std::vector<float> values = costs.to_vector<float>();
  for (int64_t t = 0; t < costs.dim(0); ++t) {
    for (int64_t i = 0; i < kNodes; ++i) {
      float* column = values.data() + t * runs * kNodes + i;
      float mean = 0;
      for (int64_t r = 0; r < runs; ++r) mean += column[r * kNodes] / static_cast<float>(runs);
      for (int64_t r = 0; r < runs; ++r) column[r * kNodes] -= mean;
    }
  }
  return Tensor::from(values, costs.shape());
}

// One batch's estimate of the gradient in the scores.
Vector estimate(const Estimator& e, Philox& random) {
  const int64_t runs = kBoards * e.draws;
  const std::vector<float> scores(kScores.begin(), kScores.end());
  Tensor leaf = Tensor::from(scores, {kNodes, kNodes}).set_requires_grad();
  const Tensor q = ops::broadcast_to(leaf, {runs, kNodes, kNodes});
  Tensor indices, log_prob;
  if (e.score == Score::with_replacement) {
    const auto drawn = sample(q, unit_keys(runs, kNodes), WithReplacement{kDraws}, random);
    indices = drawn.indices;
    log_prob = score(drawn);
  } else if (e.score == Score::subset) {
    const auto drawn = sample(q, KSubset{kDraws}, random);
    indices = drawn.indices;
    log_prob = score(drawn);
  } else {
    const auto drawn = sample(q, unit_keys(runs, kNodes), PlackettLuce{kDraws}, random);
    indices = drawn.indices;
    log_prob = e.score == Score::ordered ? ordered_score(drawn)
               : e.score == Score::set   ? set_score(drawn)
                                         : one_order_score(q, indices);
  }
  const int64_t last = e.objective().steps - 1;
  Tensor costs = costs_of_runs(indices, e.draws, e.objective());
  if (e.planted == Planted::mean_of_all) costs = less_the_mean_of_all(costs);
  Tensor reach;
  const int64_t late = (e.start == Start::alike) + (e.planted == Planted::too_late);
  if (e.downstream != Downstream::all)
    reach = hops(indices, e.downstream == Downstream::own_alone ? 0 : last, late);
  backward(surrogate_loss(
      costs, {{log_prob, reach}},
      {.baseline = e.baseline, .draws = e.draws, .entropy = e.entropy, .discount = e.discount}));
  return leaf.grad().to(DType::f64).to_vector<double>();
}

Moments moments_of(const Estimator& e) {
  Philox random(kSeed);
  return moments([&] { return estimate(e, random); });
}

double worst_of(const Estimator& e) {
  const double worst = worst_deviation(moments_of(e), exact_gradient(e.drawing(), e.objective()));
  testing::Test::RecordProperty("worst_deviation", std::to_string(worst));
  return worst;
}

const std::vector<Estimator> kUnbiased = {
    {.name = "no baseline, all costs", .downstream = Downstream::all},
    {.name = "no baseline"},
    {.name = "others in batch, all costs",
     .downstream = Downstream::all,
     .baseline = Baseline::others_in_batch},
    {.name = "others in batch", .baseline = Baseline::others_in_batch},
    {.name = "others of board, all costs",
     .downstream = Downstream::all,
     .baseline = Baseline::others_of_board,
     .draws = 4},
    {.name = "others of board", .baseline = Baseline::others_of_board, .draws = 4},
    {.name = "others of board, entropy",
     .baseline = Baseline::others_of_board,
     .draws = 4,
     .entropy = 0.3},
    {.name = "sets, no baseline", .score = Score::set},
    {.name = "sets, others of board",
     .score = Score::set,
     .baseline = Baseline::others_of_board,
     .draws = 4},
    {.name = "with replacement, no baseline", .score = Score::with_replacement},
    {.name = "with replacement, others of board",
     .score = Score::with_replacement,
     .baseline = Baseline::others_of_board,
     .draws = 4},
    {.name = "subsets, no baseline", .score = Score::subset},
    {.name = "subsets, others of board",
     .score = Score::subset,
     .baseline = Baseline::others_of_board,
     .draws = 4},
    {.name = "subsets, others of board, entropy",
     .score = Score::subset,
     .baseline = Baseline::others_of_board,
     .draws = 4,
     .entropy = 0.3},
    {.name = "sets, others of board, entropy",
     .score = Score::set,
     .baseline = Baseline::others_of_board,
     .draws = 4,
     .entropy = 0.3},
    {.name = "with replacement, others of board, entropy",
     .score = Score::with_replacement,
     .baseline = Baseline::others_of_board,
     .draws = 4,
     .entropy = 0.3},
    {.name = "no baseline, discount", .discount = 0.2},
    {.name = "others of board, all costs, discount",
     .downstream = Downstream::all,
     .baseline = Baseline::others_of_board,
     .draws = 4,
     .discount = 0.2},
    {.name = "others of board, discount",
     .baseline = Baseline::others_of_board,
     .draws = 4,
     .discount = 0.2},
    {.name = "alike, no baseline", .start = Start::alike},
    {.name = "alike, others in batch",
     .baseline = Baseline::others_in_batch,
     .start = Start::alike},
    {.name = "alike, others of board",
     .baseline = Baseline::others_of_board,
     .draws = 4,
     .start = Start::alike},
    // As GraphLearner trains by default.
    {.name = "alike, subsets, others of board, discount",
     .score = Score::subset,
     .baseline = Baseline::others_of_board,
     .draws = 2,
     .discount = 0.2,
     .start = Start::alike},
    {.name = "alike, sets, others of board, discount, entropy",
     .score = Score::set,
     .baseline = Baseline::others_of_board,
     .draws = 4,
     .entropy = 0.3,
     .discount = 0.2,
     .start = Start::alike},
    {.name = "alike, with replacement, others of board, discount, entropy",
     .score = Score::with_replacement,
     .baseline = Baseline::others_of_board,
     .draws = 4,
     .entropy = 0.3,
     .discount = 0.2,
     .start = Start::alike},
};

class Unbiased : public testing::TestWithParam<Estimator> {};

TEST_P(Unbiased, MeanIsTheExactGradient) {
  EXPECT_LT(worst_of(GetParam()), bound_for(kScores.size()));
}

std::string test_name(const testing::TestParamInfo<Estimator>& tested) {
  std::string name = tested.param.name;
  std::erase_if(name, [](char c) { return c == ',' || c == ' '; });
  return name;
}
INSTANTIATE_TEST_SUITE_P(Estimators, Unbiased, testing::ValuesIn(kUnbiased), test_name);

TEST(Biased, BaselineThatIncludesItselfIsFound) {
  EXPECT_GT(worst_of({.name = "", .planted = Planted::mean_of_all}), bound_for(kScores.size()));
}

TEST(Biased, SetScoredAsOneOfItsOrdersIsFound) {
  EXPECT_GT(worst_of({.name = "", .score = Score::one_order}), bound_for(kScores.size()));
}

TEST(Biased, CostsLeftOutAreFound) {
  EXPECT_GT(worst_of({.name = "", .downstream = Downstream::own_alone}), bound_for(kScores.size()));
}

TEST(Biased, ScoreOfAnotherLawIsFound) {
  const Moments m = moments_of({.name = ""});
  for (const Drawing other : {Drawing::with_replacement, Drawing::subset})
    EXPECT_GT(worst_deviation(m, exact_gradient(other, {})), bound_for(kScores.size()));
}

TEST(Biased, EntropyLeftOutIsFound) {
  for (const Score score : {Score::ordered, Score::set, Score::with_replacement, Score::subset}) {
    const Estimator without{
        .name = "", .score = score, .baseline = Baseline::others_of_board, .draws = 4};
    EXPECT_GT(
        worst_deviation(moments_of(without), exact_gradient(without.drawing(), {.entropy = 0.3})),
        bound_for(kScores.size()));
  }
}

TEST(Biased, DiscountLeftOutIsFound) {
  const Moments m = moments_of({.name = "", .discount = 0.2});
  EXPECT_GT(worst_deviation(m, exact_gradient(Drawing::in_turn, {})), bound_for(kScores.size()));
}

TEST(Biased, CreditThatComesTooLateIsFound) {
  for (const Start start : {Start::apart, Start::alike})
    EXPECT_GT(worst_of({.name = "", .start = start, .planted = Planted::too_late}),
              bound_for(kScores.size()));
}

// ---- one draw after another --------------------------------------------------------------------
// x by the scores a, then y by the scores c[x], and one cost for the pair: a [3], c [3, 3].

const Vector kFirst = {0.2, -0.3, 0.5, 0.4, 0.1, -0.7, -0.2, 0.8, 0.3, 0.6, -0.5, 0.0};  // a, c
const Vector kPairCosts = {1.0, -0.5, 2.0, 0.3, 1.7, -1.2, 0.9, -2.0, 0.6};

Vector exact_chain_gradient() {
  const auto softmax = [](const double* s) {
    const double total = std::exp(s[0]) + std::exp(s[1]) + std::exp(s[2]);
    return Vector{std::exp(s[0]) / total, std::exp(s[1]) / total, std::exp(s[2]) / total};
  };
  const Vector p = softmax(kFirst.data());
  Vector gradient(kFirst.size());
  for (size_t x = 0; x < 3; ++x) {
    const Vector q = softmax(kFirst.data() + 3 + 3 * x);
    for (size_t y = 0; y < 3; ++y) {
      const double weight = p[x] * q[y] * kPairCosts[3 * x + y];
      for (size_t e = 0; e < 3; ++e) {
        gradient[e] += weight * ((e == x) - p[e]);
        gradient[3 + 3 * x + e] += weight * ((e == y) - q[e]);
      }
    }
  }
  return gradient;
}

// One draw from three keys by the scores [runs, 3].
struct Draw {
  Tensor index, log_prob;  // [runs], [runs, 1]
};
Draw draw_one(const Tensor& scores, Philox& random) {
  const int64_t runs = scores.dim(0);
  const auto drawn =
      sample(ops::reshape(scores, {runs, 1, 3}), unit_keys(runs, 3), WithReplacement{1}, random);
  return {ops::reshape(drawn.indices, {runs}), score(drawn)};
}

TEST(UnbiasedChain, OneDrawAfterAnother) {
  constexpr int64_t kRuns = 8;
  Philox random(kSeed);
  const Moments m = moments([&] {
    const std::vector<float> values(kFirst.begin(), kFirst.end());
    Tensor leaf = Tensor::from(values, {4, 3}).set_requires_grad();
    const Draw x =
        draw_one(ops::broadcast_to(ops::reshape(ops::rows(leaf, 0, 1), {3}), {kRuns, 3}), random);
    const Draw y = draw_one(ops::embedding(ops::rows(leaf, 1, 3), x.index), random);
    const auto xs = x.index.to_vector<int32_t>(), ys = y.index.to_vector<int32_t>();
    std::vector<float> costs;
    for (size_t r = 0; r < xs.size(); ++r)
      costs.push_back(static_cast<float>(
          kPairCosts[3 * static_cast<size_t>(xs[r]) + static_cast<size_t>(ys[r])]));
    backward(surrogate_loss(Tensor::from(costs, {1, kRuns, 1}), {{x.log_prob}, {y.log_prob}},
                            {.baseline = Baseline::others_in_batch}));
    return leaf.grad().to(DType::f64).to_vector<double>();
  });
  EXPECT_LT(worst_deviation(m, exact_chain_gradient()), bound_for(kFirst.size()));
}

// ---- variance ----------------------------------------------------------------------------------

// By a run, so that four draws for a board have to be worth four boards.
TEST(Variance, FallsWithBaselineAndReach) {
  std::map<std::string, double> variance;
  fmt::print("{:<60} {:>20} {:>16}\n", "estimator", "variance by a run", "signal / noise");
  for (const Estimator& e : kUnbiased) {
    if (e.start == Start::alike) continue;  // another problem
    const Moments m = moments_of(e);
    const Vector exact = exact_gradient(e.drawing(), e.objective());
    double signal = 0;
    for (const double g : exact) signal += g * g;
    const double by_run = m.total_variance() * static_cast<double>(kBoards * e.draws);
    variance[e.name] = by_run;
    fmt::print("{:<60} {:>20.5f} {:>16.3f}\n", e.name, by_run, std::sqrt(signal / by_run));
  }
  EXPECT_LT(variance["no baseline"], variance["no baseline, all costs"]);
  EXPECT_LT(variance["others in batch"], variance["others in batch, all costs"]);
  EXPECT_LT(variance["others of board"], variance["others of board, all costs"]);
  EXPECT_LT(variance["others of board"], variance["no baseline"]);
  EXPECT_LT(variance["others of board"], variance["others in batch"]);
  // The order says nothing about the costs: leaving it out (Rao, Blackwell) never hurts.
  EXPECT_LT(variance["sets, no baseline"], variance["no baseline"]);
  EXPECT_LT(variance["sets, others of board"], variance["others of board"]);
}

}  // namespace
}  // namespace stillpoint::stochastic
