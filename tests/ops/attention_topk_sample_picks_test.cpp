// Which keys attention_topk_sample draws: the same everywhere, as often as its laws say.
#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>
#include <vector>

#include "engine/sampling.h"
#include "kernels/attention_topk_sample/attention_topk_sample.h"
#include "kernels/common/exact.h"
#include "kernels/common/parallel.h"
#include "kernels/common/simd.h"
#include "tests/ops/sample_draws.h"
#include "tests/support/op_test.h"

namespace stillpoint::test {
namespace {

// ---- the same picks everywhere -----------------------------------------------------------------

// Keys are unit vectors, so that scores are single numbers of q, the same on every backend; many
// keys share one, so that scores tie.
TEST(AttentionTopkSamplePicks, EqualScoresMeanEqualPicks) {
  constexpr int64_t kWidth = 33, kKeys = 300;
  const Tensor q = random_tensor({2, 40, kWidth}, 3, 8).to(DType::f32);
  std::vector<float> unit(2 * kKeys * kWidth, 0.f);
  for (size_t j = 0; j < 2 * kKeys; ++j) unit[j * kWidth + j % kKeys % kWidth] = 1;
  const Tensor k = Tensor::from(unit, {2, kKeys, kWidth});
  for_laws(20, [&](const std::string& name, auto law) {
    SCOPED_TRACE(name);
    const std::vector<int32_t> wanted = picks(draw(q, k, law).indices);
    for (const int threads : {1, 2, 3}) {
      kernels::set_num_threads(threads);
      EXPECT_EQ(picks(draw(q, k, law).indices), wanted) << threads << " threads";
    }
    kernels::set_num_threads(0);
    for (const std::string& isa : kernels::available_isas()) {
      kernels::force_isa(isa);
      EXPECT_EQ(picks(draw(q, k, law).indices), wanted) << isa;
    }
    kernels::force_isa("");
    if (available(Device::cuda)) {
      const Tensor on_device = draw(q.to(Device::cuda), k.to(Device::cuda), law).indices;
      EXPECT_EQ(picks(on_device), wanted);
    }
  });
}

TEST(AttentionTopkSamplePicks, TiesGoToTheLowestKey) {
  const Tensor q = Tensor::full({1, 1, 1}, 1.0);
  const Tensor k = Tensor::from<float>({1, 2, 2, 1, 2, 0}, {1, 6, 1});
  for (const Device device : {Device::cpu, Device::cuda})
    if (available(device)) {
      EXPECT_THAT(picks(draw(q.to(device), k.to(device), TopScores{5}).indices),
                  testing::ElementsAre(1, 2, 4, 0, 3));
    }
}

// The largest are what a stable sort puts first, also where more keys tie than fit.
TEST(AttentionTopkSamplePicks, TheLargestAreThoseOfAStableSort) {
  const Tensor q = Tensor::full({1, 1, 1}, 1.0);
  for (const int32_t values : {1, 3, 40, 100000}) {
    for (const int64_t keys : {64, 129, 700}) {
      const auto drawn = random_indices({keys}, values, 5).to_vector<int32_t>();
      const int32_t middle = values / 2;
      std::vector<float> k;  // of both signs
      for (const int32_t value : drawn) k.push_back(static_cast<float>(value - middle));
      std::vector<int32_t> sorted(k.size());
      std::iota(sorted.begin(), sorted.end(), 0);
      std::ranges::stable_sort(sorted, std::greater(),
                               [&](int32_t j) { return k[static_cast<size_t>(j)]; });
      for (const int64_t count : {1, 7, 20, 64}) {
        const std::vector<int32_t> wanted(sorted.begin(), sorted.begin() + count);
        for (const std::string& isa : kernels::available_isas()) {
          kernels::force_isa(isa);
          EXPECT_EQ(picks(draw(q, Tensor::from(k, {1, keys, 1}), TopScores{count}).indices), wanted)
              << count << " of " << keys << " keys, " << values << " values, " << isa;
        }
        kernels::force_isa("");
      }
    }
  }
}

// ---- with scores of its own a backend may pick otherwise at near ties alone ---------------------

struct OwnScores {
  static constexpr int64_t kQueries = 200, kKeys = 500, kWidth = 64, kCount = 20;
  static constexpr double kScale = 0.125, kEps = std::numeric_limits<float>::epsilon();
  // Of a score, all rounding the same way: elements are up to 4.
  static constexpr double kError = kEps * kWidth * 16 * kScale;

  Tensor q = random_tensor({1, kQueries, kWidth}, 4, 4).to(DType::f32);
  Tensor k = random_tensor({1, kKeys, kWidth}, 5, 4).to(DType::f32);
  std::vector<float> q_values = q.to_vector<float>(), k_values = k.to_vector<float>();

  double score(int64_t i, int64_t j) const {
    double sum = 0;
    for (int64_t d = 0; d < kWidth; ++d)
      sum += double{q_values[static_cast<size_t>(i * kWidth + d)]} *
             k_values[static_cast<size_t>(j * kWidth + d)];
    return sum * kScale;
  }
  template <class Law>
  std::vector<int32_t> picks_on(Device device, Law law) const {
    return picks(draw(q.to(device), k.to(device), law).indices);
  }
};

template <class Law>
void expect_order_but_for_near_ties(const OwnScores& own, Law law) {
  constexpr double kBound = 2 * OwnScores::kError;
  const auto rank = [&](int64_t i, int64_t j) {
    if constexpr (std::is_same_v<Law, TopScores>) return own.score(i, j);
    const int64_t block = i * kernels::plackett_luce_blocks(OwnScores::kKeys) + j / 4;
    const auto words = kernels::philox4x32_10(kSeed, static_cast<uint64_t>(block), 0);
    return own.score(i, j) + double{kernels::exact::gumbel(words.v[j % 4])};
  };
  for (const Device device : {Device::cpu, Device::cuda}) {
    if (!available(device)) continue;
    const std::vector<int32_t> got = own.picks_on(device, law);
    for (int64_t i = 0; i < OwnScores::kQueries; ++i) {
      std::vector<double> ranks;
      for (int64_t j = 0; j < OwnScores::kKeys; ++j) ranks.push_back(rank(i, j));
      std::vector<double> sorted = ranks;
      std::ranges::sort(sorted, std::greater());
      for (int64_t t = 0; t < OwnScores::kCount; ++t) {
        const int32_t j = got[static_cast<size_t>(i * OwnScores::kCount + t)];
        EXPECT_NEAR(ranks[static_cast<size_t>(j)], sorted[static_cast<size_t>(t)], kBound)
            << name(device) << " " << i << " " << t;
      }
    }
  }
}

TEST(AttentionTopkSamplePicks, PicksDifferOnlyAtNearTies) {
  const OwnScores own;
  expect_order_but_for_near_ties(own, TopScores{OwnScores::kCount});
  expect_order_but_for_near_ties(own, PlackettLuce{OwnScores::kCount});
}

TEST(AttentionTopkSamplePicks, PicksWithReplacementDifferOnlyAtBoundaries) {
  const OwnScores own;
  constexpr int64_t kCount = OwnScores::kCount;
  constexpr double kBound =
      OwnScores::kError / 2 + 16 * OwnScores::kEps + OwnScores::kKeys * 0x1p-30;
  for (const Device device : {Device::cpu, Device::cuda}) {
    if (!available(device)) continue;
    const std::vector<int32_t> got = own.picks_on(device, WithReplacement{kCount});
    for (int64_t i = 0; i < OwnScores::kQueries; ++i) {
      std::vector<double> up_to{0};  // [keys + 1]: the chance of the keys before
      for (int64_t j = 0; j < OwnScores::kKeys; ++j)
        up_to.push_back(up_to.back() + std::exp(own.score(i, j)));
      std::vector<double> drawn;
      for (int64_t t = 0; t < kCount; ++t) {
        const int64_t block = i * kernels::with_replacement_blocks(kCount) + t / 2;
        const auto words = kernels::philox4x32_10(kSeed, static_cast<uint64_t>(block), 0);
        drawn.push_back(words.v[2 * (t % 2)] * 0x1p-32 + words.v[2 * (t % 2) + 1] * 0x1p-64);
      }
      std::ranges::sort(drawn);
      for (size_t t = 0; t < drawn.size(); ++t) {
        const auto j = static_cast<size_t>(got[static_cast<size_t>(i * kCount) + t]);
        EXPECT_GE(drawn[t], up_to[j] / up_to.back() - kBound) << name(device) << " " << i;
        EXPECT_LE(drawn[t], up_to[j + 1] / up_to.back() + kBound) << name(device) << " " << i;
      }
    }
  }
}

// ---- frequencies -------------------------------------------------------------------------------

const std::vector<double> kProbabilities = {0.05, 0.35, 0.2, 0.1, 0.3};

// Exact probabilities of ordered draws without replacement, or of sorted ones with.
template <class Law>
Outcomes probabilities(const std::vector<double>& p, int64_t count) {
  constexpr bool kReplacement = std::is_same_v<Law, WithReplacement>;
  Outcomes now{{{}, 1.0}};
  for (int64_t t = 0; t < count; ++t) {
    Outcomes next;
    for (const auto& [drawn, weight] : now) {
      double left = 1;
      if (!kReplacement)
        for (const int32_t j : drawn) left -= p[static_cast<size_t>(j)];
      for (int32_t j = 0; j < static_cast<int32_t>(p.size()); ++j) {
        if (!kReplacement && std::find(drawn.begin(), drawn.end(), j) != drawn.end()) continue;
        Outcome longer = drawn;
        longer.push_back(j);
        if (kReplacement) std::sort(longer.begin(), longer.end());
        next[longer] += weight * p[static_cast<size_t>(j)] / left;
      }
    }
    now = std::move(next);
  }
  return now;
}

// Draws of many queries that all see keys of the given probabilities.
template <class Law>
Outcomes frequencies(const std::vector<double>& p, Law law, int64_t queries, Device device) {
  std::vector<float> scores;
  for (const double x : p) scores.push_back(static_cast<float>(std::log(x)));
  const Tensor k = Tensor::from(scores, {1, static_cast<int64_t>(p.size()), 1}).to(device);
  const Tensor q = Tensor::full({1, queries, 1}, 1.0, {.device = device});
  const std::vector<int32_t> all = picks(draw(q, k, law).indices);
  Outcomes counts;
  for (auto i = all.begin(); i != all.end(); i += law.count) ++counts[Outcome(i, i + law.count)];
  return counts;
}

TEST(AttentionTopkSamplePicks, FrequenciesAreTheLaws) {
  for (const int64_t count : {1, 2, 5}) {
    for (const Device device : {Device::cpu, Device::cuda}) {
      if (!available(device)) continue;
      const int64_t queries = device == Device::cpu ? 40000 : 4000;
      SCOPED_TRACE(std::to_string(count) + " on " + name(device));
      const auto test = [&](auto law) {
        const ChiSquare result(frequencies(kProbabilities, law, queries, device),
                               probabilities<decltype(law)>(kProbabilities, count), queries);
        EXPECT_LT(result.statistic, result.limit);
      };
      test(PlackettLuce{count});
      test(WithReplacement{count});
    }
  }
}

// The law of subsets of two drawn in proportion to the product of their weights, which is not
// Plackett and Luce's though it resembles it, is told apart by the same test at the same size.
TEST(AttentionTopkSamplePicks, FrequenciesTellLawsApart) {
  const std::vector<double> p = {0.2, 0.3, 0.5};
  Outcomes sets, subsets;
  for (const auto& [drawn, weight] : probabilities<PlackettLuce>(p, 2)) {
    Outcome set = drawn;
    std::sort(set.begin(), set.end());
    sets[set] += weight;
    subsets[set] = p[static_cast<size_t>(set[0])] * p[static_cast<size_t>(set[1])] / 0.31;
  }
  EXPECT_NEAR((sets[{0, 1}]), 0.161, 5e-4);
  EXPECT_NEAR((subsets[{0, 1}]), 0.194, 5e-4);
  constexpr int64_t kQueries = 40000;
  Outcomes counts;
  for (const auto& [drawn, count] : frequencies(p, PlackettLuce{2}, kQueries, Device::cpu)) {
    Outcome set = drawn;
    std::sort(set.begin(), set.end());
    counts[set] += count;
  }
  const ChiSquare right(counts, sets, kQueries), wrong(counts, subsets, kQueries);
  EXPECT_LT(right.statistic, right.limit);
  EXPECT_GT(wrong.statistic, wrong.limit);
}

// Largest and smallest noise included; the tail of large values, which decides, is as exact as the
// rest.
TEST(AttentionTopkSamplePicks, NoiseIsGumbel) {
  std::vector<uint32_t> words = {0,          1,          2,          0x4aefffff,
                                 0x4af00000, 0x7fffffff, 0xfffffffe, 0xffffffff};
  Philox random(kSeed);
  for (int k = 0; k < 20000; ++k) words.push_back(random.bits() >> (k % 32));
  for (const uint32_t bits : words) {
    const double u = (bits + 0.5) * 0x1p-32;
    const double wanted = -std::log(-std::log1p(-u));
    EXPECT_NEAR(kernels::exact::gumbel(bits), wanted, 4e-7 * std::max(1.0, std::abs(wanted)));
  }
}

}  // namespace
}  // namespace stillpoint::test
