// A problem so small that all outcomes can be added up, and the test that holds the mean of an
// estimator to the exact gradient.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <map>
#include <numeric>
#include <vector>

#include "kernels/common/parallel.h"

namespace stillpoint::stochastic {

constexpr uint64_t kSeed = 20261125;
constexpr int64_t kBatches = 4096;
constexpr double kFalseAlarms = 1e-3;

using Vector = std::vector<double>;

// ---- a problem that can be enumerated ----------------------------------------------------------
// Four nodes draw two neighbours each by their own row of scores, which all boards share. A board
// is refined a few times: h'_i = tanh(h_i / 2 + g_i + sum over the neighbours of w_j h_j), and
// every node pays (h_i - wanted_i)^2 after each refinement.

constexpr int64_t kNodes = 4, kDraws = 2, kSteps = 2, kBoards = 2;

inline const Vector kScores = {0.3,  -0.5, 0.8, 0.1, 0.9, 0.2, -0.4, 0.0,
                               -0.2, 0.6,  0.1, 0.7, 0.5, 0.4, -0.6, -0.1};
inline const Vector kWeights = {1.5, -1.1, 0.7, -0.6};
struct Board {
  Vector start, wanted, given;
};
inline const Vector kZero = {0, 0, 0, 0};
inline const std::vector<Board> kBoardsGiven = {
    {{1.0, 0.4, -0.8, 0.6}, {0.9, -0.7, 0.5, -0.2}, kZero},
    {{-0.5, 1.2, 0.3, -0.9}, {-0.4, 0.8, -0.9, 0.6}, kZero}};
// All nodes start alike, at 0: the first messages say nothing.
inline const std::vector<Board> kAlike = {{kZero, kBoardsGiven[0].wanted, kBoardsGiven[0].start},
                                          {kZero, kBoardsGiven[1].wanted, kBoardsGiven[1].start}};

// What is minimised: E[mean of discount^t costs] - entropy (mean entropy of the rows).
struct Objective {
  double entropy = 0, discount = 1;
  const std::vector<Board>& boards = kBoardsGiven;
  int64_t steps = kSteps;
};

using Picks = std::vector<int32_t>;  // of one row, ascending
using Choice = std::vector<Picks>;   // of every row
enum class Drawing : uint8_t { in_turn, in_turn_as_sets, with_replacement, subset };
struct Law {  // of one row
  std::map<Picks, double> probability;
  double entropy = 0;  // of what is scored: the draws in their order, or the set
};

// [steps, nodes]
inline Vector costs_of(const Board& board, int64_t steps, const Choice& choice) {
  Vector h = board.start, costs;
  for (int64_t t = 0; t < steps; ++t) {
    Vector next;
    for (size_t i = 0; i < h.size(); ++i) {
      double sum = 0.5 * h[i] + board.given[i];
      for (const int32_t j : choice[i])
        sum += kWeights[static_cast<size_t>(j)] * h[static_cast<size_t>(j)];
      next.push_back(std::tanh(sum));
    }
    h = next;
    for (size_t i = 0; i < h.size(); ++i)
      costs.push_back((h[i] - board.wanted[i]) * (h[i] - board.wanted[i]));
  }
  return costs;
}

// Adds what follows after `picks` with probability p, in order: without replacement, or with it.
inline void extend(const double* scores, bool replace, Picks picks, double p, Law& law) {
  if (std::ssize(picks) == kDraws) {
    std::sort(picks.begin(), picks.end());
    law.probability[picks] += p;
    law.entropy -= p * std::log(p);
    return;
  }
  const auto open = [&](int32_t j) {
    return replace || std::find(picks.begin(), picks.end(), j) == picks.end();
  };
  double total = 0;
  for (int32_t j = 0; j < kNodes; ++j) total += open(j) ? std::exp(scores[j]) : 0;
  for (int32_t j = 0; j < kNodes; ++j) {
    if (!open(j)) continue;
    picks.push_back(j);
    extend(scores, replace, picks, p * std::exp(scores[j]) / total, law);
    picks.pop_back();
  }
}

// Sets of two, in proportion to the product of their weights.
inline Law subsets(const double* scores) {
  Law law;
  double total = 0;
  for (int32_t i = 0; i < kNodes; ++i)
    for (int32_t j = i + 1; j < kNodes; ++j)
      total += law.probability[{i, j}] = std::exp(scores[i] + scores[j]);
  for (auto& [picks, p] : law.probability) {
    p /= total;
    law.entropy -= p * std::log(p);
  }
  return law;
}

inline Law law_of(const double* scores, Drawing drawing) {
  if (drawing == Drawing::subset) return subsets(scores);
  Law law;
  extend(scores, drawing == Drawing::with_replacement, {}, 1, law);
  if (drawing == Drawing::in_turn_as_sets) {
    law.entropy = 0;
    for (const auto& [picks, p] : law.probability) law.entropy -= p * std::log(p);
  }
  return law;
}

inline double expectation(const Vector& scores, Drawing drawing, const Objective& o) {
  std::vector<Law> laws;
  double value = 0;
  for (int64_t i = 0; i < kNodes; ++i) {
    laws.push_back(law_of(scores.data() + i * kNodes, drawing));
    value -= o.entropy * laws.back().entropy / kNodes;
  }
  Choice choice;
  const std::function<void(double)> visit = [&](double p) {
    if (std::ssize(choice) == kNodes) {
      for (const Board& board : o.boards) {
        const Vector costs = costs_of(board, o.steps, choice);
        for (size_t e = 0; e < costs.size(); ++e)
          value += p * std::pow(o.discount, e / kNodes) * costs[e] /
                   static_cast<double>(kBoards * o.steps * kNodes);
      }
      return;
    }
    for (const auto& [picks, q] : laws[choice.size()].probability) {
      choice.push_back(picks);
      visit(p * q);
      choice.pop_back();
    }
  };
  visit(1);
  return value;
}

// By central differences of the exact expectation: no score takes part.
inline Vector exact_gradient(Drawing drawing, const Objective& o) {
  constexpr double kStep = 1e-4;  // error about kStep^2
  Vector gradient;
  for (size_t e = 0; e < kScores.size(); ++e) {
    Vector up = kScores, down = kScores;
    up[e] += kStep;
    down[e] -= kStep;
    gradient.push_back((expectation(up, drawing, o) - expectation(down, drawing, o)) / (2 * kStep));
  }
  return gradient;
}

// ---- the joint test ----------------------------------------------------------------------------

struct Moments {
  Vector mean, variance;  // of one estimate, by coordinate

  double total_variance() const { return std::accumulate(variance.begin(), variance.end(), 0.0); }
};

inline Moments moments(const std::function<Vector()>& draw) {
  kernels::set_num_threads(1);  // batches are too small for more
  Moments m;
  for (int64_t n = 1; n <= kBatches; ++n) {
    const Vector x = draw();
    m.mean.resize(x.size());
    m.variance.resize(x.size());
    for (size_t e = 0; e < x.size(); ++e) {  // Welford's
      const double before = x[e] - m.mean[e];
      m.mean[e] += before / static_cast<double>(n);
      m.variance[e] += before * (x[e] - m.mean[e]);
    }
  }
  kernels::set_num_threads(0);
  for (double& v : m.variance) v /= static_cast<double>(kBatches - 1);
  return m;
}

// The largest deviation of a mean from the exact value, in standard errors.
inline double worst_deviation(const Moments& m, const Vector& exact) {
  double worst = 0;
  for (size_t e = 0; e < exact.size(); ++e) {
    const double error = std::sqrt(m.variance[e] / static_cast<double>(kBatches));
    worst = std::max(worst, std::abs(m.mean[e] - exact[e]) / error);
  }
  return worst;
}

// The bound that a normal deviation of one of n coordinates passes with probability kFalseAlarms /
// n (Bonferroni).
inline double bound_for(size_t n) {
  const double each = kFalseAlarms / static_cast<double>(n);
  double low = 0, high = 10;
  for (int k = 0; k < 100; ++k) {
    const double z = (low + high) / 2;
    (std::erfc(z / std::sqrt(2.0)) > each ? low : high) = z;
  }
  return low;
}

}  // namespace stillpoint::stochastic
