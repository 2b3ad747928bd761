#include "engine/stochastic/straight_through.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include <cmath>

#include "engine/ops.h"
#include "engine/sampling.h"
#include "tests/engine/stochastic/exact_gradient.h"
#include "tests/support/op_test.h"

namespace stillpoint::stochastic {
namespace {

using testing::ElementsAre;

Tensor values_of(const Vector& values, Shape shape) {
  return Tensor::from(std::vector<float>(values.begin(), values.end()), std::move(shape));
}

TEST(StraightThrough, CountsDraws) {
  const Tensor lists = Tensor::from(std::vector<int32_t>{1, 1, -1, 2, 0, 2}, {1, 2, 3});
  EXPECT_THAT(draw_counts(lists, 3).to_vector<float>(), ElementsAre(0, 2, 0, 1, 0, 2));
  EXPECT_THROW((void)draw_counts(lists, 2), OptionError);
  EXPECT_THROW((void)draw_counts(ops::reshape(lists, {2, 3}), 3), ShapeError);
  EXPECT_THROW((void)draw_counts(Tensor::zeros({1, 2, 3}), 3), TypeError);
  EXPECT_EQ(draw_counts(Tensor::zeros({0, 2, 3}, {DType::i32}), 4).shape(), (Shape{0, 2, 4}));
}

TEST(StraightThrough, HasTheValueOfOneAndTheGradientOfTheOther) {
  Tensor drawn = values_of({3, 0, 1}, {3}).set_requires_grad();
  Tensor expected = values_of({0.5, 1, 2.5}, {3}).set_requires_grad();
  const Tensor both = straight_through(drawn, expected);
  EXPECT_THAT(both.to_vector<float>(), ElementsAre(3, 0, 1));
  backward(ops::sum(ops::mul(both, values_of({1, 2, 4}, {3}))));
  EXPECT_THAT(expected.grad().to_vector<float>(), ElementsAre(1, 2, 4));
  EXPECT_FALSE(drawn.grad().defined());
  EXPECT_THROW((void)straight_through(drawn, ops::reshape(expected, {1, 3})), ShapeError);
}

// Of costs that are linear in the counts, whatever was drawn: d E[sum of w_j n_j] / d s_j
// = count p_j (w_j - sum of p w).
TEST(StraightThrough, IsExactWhereCostsAreLinear) {
  const Vector scores = {0.4, -0.2, 1.1}, weights = {2.0, -1.0, 0.5};
  Tensor leaf = values_of(scores, {1, 1, 3}).set_requires_grad();
  const Tensor lists = Tensor::from(std::vector<int32_t>{0, 0, 2, 1}, {1, 1, 4});
  const Tensor graph = straight_through(draw_counts(lists, 3), expected_counts(leaf, 4));
  backward(ops::sum(ops::mul(graph, values_of(weights, {3}))));
  double total = 0, mean = 0;
  for (const double s : scores) total += std::exp(s);
  for (size_t j = 0; j < 3; ++j) mean += std::exp(scores[j]) / total * weights[j];
  const auto gradient = leaf.grad().to_vector<float>();
  for (size_t j = 0; j < 3; ++j)
    EXPECT_NEAR(gradient[j], 4 * std::exp(scores[j]) / total * (weights[j] - mean), 1e-6);
}

// The counts of drawn neighbours of every board, differentiable in the scores.
using Draw = std::function<Tensor(const Tensor& scores, Philox& random)>;

Tensor with_replacement(const Tensor& scores, Philox& random) {
  Vector unit(static_cast<size_t>(kNodes * kNodes));  // undoes the 1 / sqrt(width)
  for (int64_t j = 0; j < kNodes; ++j)
    unit[static_cast<size_t>(j * kNodes + j)] = std::sqrt(static_cast<double>(kNodes));
  const Tensor keys =
      ops::broadcast_to(values_of(unit, {kNodes, kNodes}), {kBoards, kNodes, kNodes});
  const auto drawn = sample(scores, keys, WithReplacement{kDraws}, random);
  return straight_through(draw_counts(drawn.indices, kNodes), expected_counts(scores, kDraws));
}

// The enumerated problem's costs with the graph as a matrix, differentiated through both steps.
Vector estimate(const Draw& draw, Philox& random) {
  Tensor leaf = values_of(kScores, {kNodes, kNodes}).set_requires_grad();
  const Tensor graph = draw(ops::broadcast_to(leaf, {kBoards, kNodes, kNodes}), random);
  Tensor loss = Tensor::zeros({});
  for (int64_t b = 0; b < kBoards; ++b) {
    const Board& board = kBoardsGiven[static_cast<size_t>(b)];
    const Tensor of_board = ops::reshape(ops::rows(graph, b, 1), {kNodes, kNodes});
    Tensor h = values_of(board.start, {kNodes});
    for (int64_t t = 0; t < kSteps; ++t) {
      const Tensor told = ops::mul(h, values_of(kWeights, {kNodes}));
      h = ops::tanh(ops::add(ops::affine(h, 0.5), ops::sum(ops::mul(of_board, told), -1)));
      const Tensor error = ops::sub(h, values_of(board.wanted, {kNodes}));
      loss = ops::add(loss, ops::mean(ops::mul(error, error)));
    }
  }
  backward(ops::affine(loss, 1.0 / (kSteps * kBoards)));
  return leaf.grad().to(DType::f64).to_vector<double>();
}

// Biased where costs are not linear, yet it points the right way and varies less than `most`.
void expect_biased(const Draw& draw, Drawing drawing, double most) {
  Philox random(kSeed);
  const Moments m = moments([&] { return estimate(draw, random); });
  const Vector exact = exact_gradient(drawing, {});
  double bias = 0, length = 0, along = 0, mean_length = 0;
  for (size_t e = 0; e < exact.size(); ++e) {
    bias += (m.mean[e] - exact[e]) * (m.mean[e] - exact[e]);
    length += exact[e] * exact[e];
    mean_length += m.mean[e] * m.mean[e];
    along += m.mean[e] * exact[e];
  }
  const double by_run = m.total_variance() * kBoards;
  fmt::print(
      "variance by a run {:.5f}, signal / noise {:.3f}, bias / gradient {:.3f}, cosine {:.3f}\n",
      by_run, std::sqrt(mean_length / by_run), std::sqrt(bias / length),
      along / std::sqrt(length * mean_length));
  EXPECT_GT(worst_deviation(m, exact), bound_for(exact.size()));
  EXPECT_GT(along, 0);
  EXPECT_LT(by_run, most);
}

TEST(StraightThrough, IsBiasedWhereTheyAreNotButVariesLittle) {
  expect_biased(with_replacement, Drawing::with_replacement, 0.3);  // the best score's is 0.42
}

TEST(StraightThrough, GumbelIsBiasedAtAnyTemperature) {
  for (const double temperature : {2.0, 1.0, 0.5}) {
    SCOPED_TRACE(temperature);
    expect_biased(
        [&](const Tensor& scores, Philox& random) {
          return gumbel_topk(scores, kDraws, temperature, random).counts;
        },
        Drawing::in_turn, 0.34);  // that of the best score of an order
  }
}

// The first draws are in proportion to exp(scores): Gumbel's theorem, chi-square with 3 degrees of
// freedom and a false-alarm rate of 1e-3.
TEST(StraightThrough, GumbelDrawsByPlackettAndLuce) {
  constexpr int64_t kRuns = 20000;
  const Vector scores = {0.4, -0.2, 1.1, -1.0};
  const Tensor all = ops::broadcast_to(values_of(scores, {1, 1, 4}), {kRuns, 1, 4});
  Philox random(kSeed);
  const GumbelDraws drawn = gumbel_topk(all, 2, 0.7, random);
  const auto neighbours = drawn.neighbours.to_vector<int32_t>();
  const auto counts = drawn.counts.to_vector<float>();
  Vector first(4), wanted(4);
  double total = 0, chi_square = 0;
  for (const double s : scores) total += std::exp(s);
  for (size_t run = 0; run < kRuns; ++run) {
    const auto a = static_cast<size_t>(neighbours[2 * run]);
    const auto b = static_cast<size_t>(neighbours[2 * run + 1]);
    ASSERT_NE(a, b);
    for (size_t j = 0; j < 4; ++j) ASSERT_NEAR(counts[4 * run + j], j == a || j == b ? 1 : 0, 1e-6);
    ++first[a];
  }
  for (size_t j = 0; j < 4; ++j) {
    wanted[j] = kRuns * std::exp(scores[j]) / total;
    chi_square += (first[j] - wanted[j]) * (first[j] - wanted[j]) / wanted[j];
  }
  EXPECT_LT(chi_square, 16.27);
}

TEST(StraightThrough, GumbelRefusesWhatItCannotDraw) {
  Philox random(kSeed);
  const Tensor scores = Tensor::zeros({1, 2, 3});
  EXPECT_THROW((void)gumbel_topk(scores, 4, 1, random), OptionError);
  EXPECT_THROW((void)gumbel_topk(scores, 1, 0, random), OptionError);
  EXPECT_THROW((void)gumbel_topk(ops::reshape(scores, {2, 3}), 1, 1, random), ShapeError);
  EXPECT_THROW((void)gumbel_topk(scores.to(DType::f64), 1, 1, random), TypeError);
  EXPECT_EQ(gumbel_topk(Tensor::zeros({0, 2, 3}), 1, 1, random).counts.shape(), (Shape{0, 2, 3}));
}

}  // namespace
}  // namespace stillpoint::stochastic
