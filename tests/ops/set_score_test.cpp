#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "engine/ops.h"
#include "engine/sampling.h"
#include "kernels/set_score/set_score_reference.h"
#include "tests/ops/sample_draws.h"
#include "tests/support/op_test.h"

namespace stillpoint::test {
namespace {

Tensor score_of(const Tensor& log_prob) {
  return set_score(Sample<PlackettLuce>({}, log_prob, {}));
}

OpCase make_case(const std::string& name, const Tensor& log_prob) {
  return {.name = name,
          .inputs = {log_prob},
          .op = [](std::span<const Tensor> x) { return score_of(x[0]); },
          .derivatives = Derivatives::first,
          .terms = static_cast<double>(std::max<int64_t>(1, log_prob.dim(-1))),
          .gradient_probes = 8};
}

// log of probabilities around `centre`, by factors of up to e^spread.
Tensor log_probs(Shape shape, double centre, double spread) {
  std::vector<double> v = random_tensor(shape, 1, spread).to_vector<double>();
  for (double& x : v) x = -std::log1p(std::exp(x) / centre);
  return Tensor::from(v, shape);
}

TEST(SetScore, AwkwardSizes) {
  std::vector<OpCase> cases;
  for (const int64_t n : kAwkwardSizes)
    cases.push_back(make_case("rows_" + std::to_string(n), log_probs({n, 3}, 0.5, 1)));
  for (const int64_t n : {0, 1, 2, 31, 32, 33, 64})
    cases.push_back(make_case("picks_" + std::to_string(n), log_probs({2, n}, 0.05, 2)));
  cases.push_back(make_case("three_axes", log_probs({2, 3, 4}, 0.5, 1)));
  check_op("set_score", cases);
}

// Picks that were nearly certain, picks that were not, and both in one row.
TEST(SetScore, Magnitudes) {
  std::vector<OpCase> cases;
  for (const double centre : {1e-6, 1e-3, 1.0, 1e3})
    cases.push_back(make_case("centre_" + std::to_string(centre), log_probs({4, 5}, centre, 1)));
  cases.push_back(make_case("mixed", log_probs({6, 9}, 1, 9)));
  check_op("set_score", cases);
}

// Nothing is left, or nothing can be drawn: what follows is certain.
TEST(SetScore, CertainPicks) {
  std::vector<OpCase> cases{
      make_case("last", Tensor::from<double>({-1, -0.5, 0}, {1, 3})),
      make_case("none", Tensor::from<double>({0, 0, 0}, {1, 3})),
      make_case("odds_overflow", Tensor::from<double>({-0.1, -0.8, -4e-6, -2.5e-39}, {1, 4}))};
  for (OpCase& c : cases) c.gradient_probes = 0;  // there are no probabilities above 1
  check_op("set_score", cases);
  const Tensor q = Tensor::full({1, 1, 1}, 1.0), k = Tensor::from<float>({1, 2, 3}, {1, 3, 1});
  EXPECT_NEAR(set_score(draw(q, k, PlackettLuce{3})).item(), 0, 1e-6);
}

TEST(SetScore, NotFinite) {
  const double inf = std::numeric_limits<double>::infinity();
  OpCase c =
      make_case("nan_and_infinity", Tensor::from<double>({-1, NAN, -1, -inf, -1, -2}, {3, 2}));
  c.gradient_probes = 0;
  check_op("set_score", {c});
}

// ---- the law -----------------------------------------------------------------------------------

// The probability that the first `count` of the weights, which add up to 1, are drawn first, in
// whatever order.
double set_probability(const std::vector<double>& p, size_t count) {
  std::vector<size_t> order(count);
  std::iota(order.begin(), order.end(), 0u);
  double sum = 0;
  do {
    double product = 1, left = 1;
    for (const size_t t : order) {
      product *= p[t] / left;
      left = std::accumulate(p.begin(), p.end(), 0.0);
      for (auto u = order.begin(); *u != t; ++u) left -= p[*u];
      left -= p[t];
    }
    sum += product;
  } while (std::next_permutation(order.begin(), order.end()));
  return sum;
}

// Scores of sets that were drawn are the sums over all orders, from which they do not depend.
TEST(SetScore, IsTheSumOverOrders) {
  const std::vector<double> p = {0.05, 0.3, 0.2, 0.1, 0.22, 0.08, 0.05};
  std::vector<float> scores;
  for (const double x : p) scores.push_back(static_cast<float>(std::log(x)));
  const Tensor k = Tensor::from(scores, {1, 7, 1}), q = Tensor::full({1, 12, 1}, 1.0);
  for (const int64_t count : {1, 2, 3, 5, 6}) {
    const auto drawn = draw(q, k, PlackettLuce{count});
    const std::vector<int32_t> index = picks(drawn.indices);
    const std::vector<float> got = set_score(drawn).to_vector<float>();
    for (size_t row = 0; row < got.size(); ++row) {
      std::vector<double> sorted;  // the row's picks, then the others
      std::vector<bool> picked(p.size(), false);
      const auto begin = index.begin() + static_cast<int64_t>(row) * count;
      for (auto i = begin; i != begin + count; ++i) picked[static_cast<size_t>(*i)] = true;
      for (const bool first : {true, false})
        for (size_t j = 0; j < p.size(); ++j)
          if (picked[j] == first) sorted.push_back(p[j]);
      const double wanted = std::log(set_probability(sorted, static_cast<size_t>(count)));
      EXPECT_NEAR(got[row], wanted, 4e-6 * std::max(1.0, std::abs(wanted))) << count;
    }
  }
}

// Through log_prob, the gradient in the scores: it must not depend on the order drawn either.
TEST(SetScore, GradientReachesTheScores) {
  const auto gradient = [](const std::vector<double>& order) {
    // log_prob of picks with the given scores, in this order, beside two keys of score 0.
    const auto n = static_cast<int64_t>(order.size());
    Tensor s = Tensor::from(order, {n});
    s.set_requires_grad();
    Tensor rest = Tensor::full({1}, 2.0, s.options());
    std::vector<Tensor> log_prob(order.size());
    for (size_t t = order.size(); t-- > 0;) {
      const Tensor score = ops::columns(s, static_cast<int64_t>(t), 1);
      rest = ops::add(rest, ops::exp(score));
      log_prob[t] = ops::sub(score, ops::log(rest));
    }
    const Tensor out = score_of(ops::concat(log_prob));
    return vjp(out, s, Tensor::full({}, 1.0, s.options())).to_vector<double>();
  };
  const std::vector<double> a = gradient({0.5, -1, 2}), b = gradient({2, 0.5, -1});
  for (const auto& [x, y] : {std::pair(a[0], b[1]), std::pair(a[1], b[2]), std::pair(a[2], b[0])})
    EXPECT_NEAR(x, y, 1e-12);
}

// ---- the quadrature ----------------------------------------------------------------------------

// The points that float uses against four times as many over a wider range, in double, for weights
// of all magnitudes.
TEST(SetScore, QuadratureError) {
  constexpr kernels::SetGrid kFinest{-60, 0.03125, 2112};
  using kernels::reference::set_log_integral;
  double worst = 0;
  std::vector<double> log_a;
  for (const int64_t count : {0, 1, 2, 7, 20, 64})
    for (const double centre : {-60.0, -20.0, -5.0, -2.0, 0.0, 2.0, 5.0, 20.0, 60.0})
      for (const double spread : {0.0, 0.5, 3.0, 30.0}) {
        log_a = random_tensor({count}, 3, spread).to_vector<double>();
        for (double& x : log_a) x += centre;
        worst = std::max(worst, std::abs(set_log_integral(log_a.data(), count, kernels::kSetGrid) -
                                         set_log_integral(log_a.data(), count, kFinest)));
      }
  EXPECT_LT(worst, 1e-7);
  EXPECT_GT(worst, 1e-12);  // the comparison sees something
}

TEST(SetScore, RefusesWrongInputs) {
  EXPECT_THROW(score_of(Tensor::zeros({3, 65})), ShapeError);
  EXPECT_THROW(score_of(Tensor::zeros({})), ShapeError);
  EXPECT_THROW(score_of(Tensor::zeros({2, 2}, {.dtype = DType::i32})), TypeError);
}

TEST(SetScore, HasNoSecondDerivative) {
  Tensor x = Tensor::full({1, 2}, -1.0);
  x.set_requires_grad();
  const Tensor one = Tensor::full({1}, 1.0);
  const Tensor dx = vjp(score_of(x), x, one, {.create_graph = true});
  EXPECT_THROW(vjp(ops::sum(dx), x, Tensor::full({}, 1.0)), GradientError);
}

}  // namespace
}  // namespace stillpoint::test
