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

// The enumerated problem's costs with the graph as a matrix, differentiated through both steps.
Vector estimate(Philox& random) {
  Tensor leaf = values_of(kScores, {kNodes, kNodes}).set_requires_grad();
  const Tensor scores = ops::broadcast_to(leaf, {kBoards, kNodes, kNodes});
  Vector unit(static_cast<size_t>(kNodes * kNodes));  // undoes the 1 / sqrt(width)
  for (int64_t j = 0; j < kNodes; ++j)
    unit[static_cast<size_t>(j * kNodes + j)] = std::sqrt(static_cast<double>(kNodes));
  const Tensor keys =
      ops::broadcast_to(values_of(unit, {kNodes, kNodes}), {kBoards, kNodes, kNodes});
  const auto drawn = sample(scores, keys, WithReplacement{kDraws}, random);
  const Tensor graph =
      straight_through(draw_counts(drawn.indices, kNodes), expected_counts(scores, kDraws));
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

TEST(StraightThrough, IsBiasedWhereTheyAreNotButVariesLittle) {
  Philox random(kSeed);
  const Moments m = moments([&] { return estimate(random); });
  const Vector exact = exact_gradient(Drawing::with_replacement, {});
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
  EXPECT_LT(by_run, 0.3);  // the best score's, others of the board: 0.42
}

}  // namespace
}  // namespace stillpoint::stochastic
