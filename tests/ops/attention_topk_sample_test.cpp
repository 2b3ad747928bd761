#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>

#include "engine/memory.h"
#include "engine/ops.h"
#include "engine/sampling.h"
#include "kernels/attention_topk_sample/attention_topk_sample.h"
#include "kernels/common/exact.h"
#include "kernels/common/parallel.h"
#include "kernels/common/simd.h"
#include "tests/support/op_test.h"

namespace stillpoint::test {
namespace {

// A score of another law's draws does not compile.
template <class S>
concept HasOrderedScore = requires(const S& s) {
  ordered_score(s);
};
template <class S>
concept HasScore = requires(const S& s) {
  score(s);
};
static_assert(HasOrderedScore<Sample<PlackettLuce>> && HasScore<Sample<WithReplacement>>);
static_assert(!HasOrderedScore<Sample<WithReplacement>> && !HasScore<Sample<PlackettLuce>>);
static_assert(!HasOrderedScore<Sample<TopScores>> && !HasScore<Sample<TopScores>>);

constexpr uint64_t kSeed = 20261125;

template <class Law>
Sample<Law> draw(const Tensor& q, const Tensor& k, Law law, const SampleOptions& options = {}) {
  Philox random(kSeed);
  if constexpr (std::is_same_v<Law, TopScores>)
    return sample(q, k, law, options);
  else
    return sample(q, k, law, random, options);
}

// Calls body with one sample<Law>(q, k) after the other.
template <class Body>
void for_laws(int64_t count, Body&& body) {
  body("top", TopScores{count});
  body("plackett_luce", PlackettLuce{count});
  body("with_replacement", WithReplacement{count});
}

// ---- results and gradients ---------------------------------------------------------------------

struct Sizes {
  int64_t batch = 2, queries = 5, keys = 9, width = 4, count = 3;
};

std::vector<OpCase> make_cases(const std::string& name, Sizes s, const Tensor& key_mask = {}) {
  std::vector<OpCase> cases;
  for_laws(s.count, [&](const std::string& law_name, auto law) {
    cases.push_back(
        {.name = name + "_" + law_name,
         .inputs = {random_tensor({s.batch, s.queries, s.width}, 1, 2),
                    random_tensor({s.batch, s.keys, s.width}, 2, 2)},
         .op =
             [=](std::span<const Tensor> x) {
               const Tensor mask = key_mask ? key_mask.to(x[0].device()) : Tensor();
               return draw(x[0], x[1], law, {.temperature = 0.7, .key_mask = mask}).log_prob;
             },
         .derivatives = Derivatives::first,
         .terms = static_cast<double>(s.keys + s.queries + s.width),
         .gradient_probes = 12});
  });
  return cases;
}

void check(const std::vector<std::vector<OpCase>>& groups) {
  for (const auto& cases : groups) check_op("attention_topk_sample", cases);
}

TEST(AttentionTopkSample, AwkwardSizes) {
  for (const int64_t n : {7, 8, 31, 32, 33, 257})
    check({make_cases("keys_" + std::to_string(n), {.keys = n})});
  for (const int64_t n : kAwkwardSizes)
    check({make_cases("queries_" + std::to_string(n), {.batch = 1, .queries = n})});
  for (const int64_t n : {1, 31, 33, 64, 128})
    check({make_cases("width_" + std::to_string(n), {.batch = 1, .width = n})});
  check({make_cases("batch_0", {.batch = 0}), make_cases("all", {.keys = 7, .count = 7}),
         make_cases("one", {.keys = 1, .count = 1}),
         make_cases("most", {.batch = 1, .keys = 70, .count = 64})});
}

TEST(AttentionTopkSample, Masks) {
  std::vector<int32_t> mask;
  for (int j = 0; j < 2 * 40; ++j) mask.push_back(j % 3 != 0 && j < 60 ? 1 : 0);
  check({make_cases("some", {.keys = 40}, Tensor::from(mask, {2, 40}))});
}

// ---- the same picks everywhere -----------------------------------------------------------------

std::vector<int32_t> picks(const Tensor& indices) { return indices.to_vector<int32_t>(); }
std::vector<float> floats(const Tensor& t) { return t.to_vector<float>(); }

// Keys are unit vectors, so that scores are single numbers of q, the same on every backend; many
// keys share one, so that scores tie.
TEST(AttentionTopkSample, EqualScoresMeanEqualPicks) {
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

TEST(AttentionTopkSample, TiesGoToTheLowestKey) {
  const Tensor q = Tensor::full({1, 1, 1}, 1.0);
  const Tensor k = Tensor::from<float>({1, 2, 2, 1, 2, 0}, {1, 6, 1});
  for (const Device device : {Device::cpu, Device::cuda})
    if (available(device)) {
      EXPECT_THAT(picks(draw(q.to(device), k.to(device), TopScores{5}).indices),
                  testing::ElementsAre(1, 2, 4, 0, 3));
    }
}

// With scores of its own a backend may pick otherwise only where two perturbed scores lie closer
// than both scores' rounding: eps width max |q_d k_d| scale each.
TEST(AttentionTopkSample, PicksDifferOnlyAtNearTies) {
  if (!available(Device::cuda)) GTEST_SKIP() << "no CUDA device";
  constexpr int64_t kQueries = 200, kKeys = 500, kWidth = 64, kCount = 20;
  const Tensor q = random_tensor({1, kQueries, kWidth}, 4, 4).to(DType::f32);
  const Tensor k = random_tensor({1, kKeys, kWidth}, 5, 4).to(DType::f32);
  const PlackettLuce law{kCount};
  const std::vector<int32_t> cpu = picks(draw(q, k, law).indices);
  const std::vector<int32_t> cuda =
      picks(draw(q.to(Device::cuda), k.to(Device::cuda), law).indices);
  const std::vector<float> qv = q.to_vector<float>(), kv = k.to_vector<float>();
  const double scale = 1 / std::sqrt(static_cast<double>(kWidth));
  const double bound = 2 * std::numeric_limits<float>::epsilon() * kWidth * 16 * scale;
  for (int64_t i = 0; i < kQueries; ++i) {
    const auto perturbed = [&](int32_t j) {
      const int64_t block = i * kernels::plackett_luce_blocks(kKeys) + j / 4;
      double sum = 0;
      for (int64_t d = 0; d < kWidth; ++d)
        sum += double{qv[static_cast<size_t>(i * kWidth + d)]} *
               kv[static_cast<size_t>(j * kWidth + d)];
      const auto words = kernels::philox4x32_10(kSeed, static_cast<uint64_t>(block), 0);
      return sum * scale + kernels::exact::gumbel(words.v[j % 4]);
    };
    for (int64_t t = 0; t < kCount; ++t) {
      const auto at = static_cast<size_t>(i * kCount + t);
      const double here = perturbed(cpu[at]);
      EXPECT_LE(std::abs(here - perturbed(cuda[at])), cpu[at] == cuda[at] ? 0 : bound);
      EXPECT_LE(here, (t > 0 ? perturbed(cpu[at - 1]) : here) + bound) << i << " " << t;
    }
  }
}

// ---- frequencies -------------------------------------------------------------------------------

using Outcome = std::vector<int32_t>;
using Outcomes = std::map<Outcome, double>;

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

// The statistic over outcomes of which at least 5 are expected, the others together, and what it
// exceeds by chance once in 1,000 times (Wilson and Hilferty's approximation).
struct ChiSquare {
  double statistic = 0, limit = 0;

  ChiSquare(const Outcomes& counts, const Outcomes& wanted, int64_t draws) {
    double freedom = -1, rare = 0, rare_count = 0, known = 0;
    const auto add = [&](double count, double expected) {
      statistic += (count - expected) * (count - expected) / expected;
      freedom += 1;
    };
    for (const auto& [outcome, probability] : wanted) {
      const double expected = probability * static_cast<double>(draws);
      const auto found = counts.find(outcome);
      const double count = found == counts.end() ? 0 : found->second;
      known += count;
      if (expected >= 5)
        add(count, expected);
      else
        rare += expected, rare_count += count;
    }
    if (rare > 0) add(rare_count, rare);
    EXPECT_EQ(known, static_cast<double>(draws)) << "outcomes that cannot be";
    const double share = 2 / (9 * freedom);
    limit = freedom * std::pow(1 - share + 3.0902 * std::sqrt(share), 3);
  }
};

TEST(AttentionTopkSample, FrequenciesAreTheLaws) {
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
TEST(AttentionTopkSample, FrequenciesTellLawsApart) {
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
TEST(AttentionTopkSample, NoiseIsGumbel) {
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

// ---- by hand, and what is not usual ------------------------------------------------------------

TEST(AttentionTopkSample, ByHand) {
  const Tensor q = Tensor::full({1, 1, 1}, 1.0);
  const std::vector<float> p = {0.2f, 0.3f, 0.5f};
  const Tensor k = Tensor::from<float>({std::log(p[0]), std::log(p[1]), std::log(p[2])}, {1, 3, 1});
  const auto ordered = draw(q, k, PlackettLuce{2});
  const std::vector<int32_t> i = picks(ordered.indices);
  const float first = p[static_cast<size_t>(i[0])], second = p[static_cast<size_t>(i[1])];
  EXPECT_NEAR(ordered_score(ordered).item(), std::log(first * second / (1 - first)), 1e-6);
  EXPECT_NEAR(ordered.log_normaliser.item(), 0, 1e-6);
  const auto independent = draw(q, k, WithReplacement{3});
  double wanted = 0;
  for (const int32_t j : picks(independent.indices)) wanted += std::log(p[static_cast<size_t>(j)]);
  EXPECT_NEAR(score(independent).item(), wanted, 1e-6);
}

// What remains is added up, not subtracted: after the first draw that is e^-120 of the whole.
// Scores of 60 are rounded to 2^-18.
TEST(AttentionTopkSample, WhatRemainsKeepsItsDigits) {
  const Tensor q = Tensor::full({1, 1, 1}, 1.0);
  const Tensor k = Tensor::from<float>({-60, 60, -61}, {1, 3, 1});
  for (const Device device : {Device::cpu, Device::cuda}) {
    if (!available(device)) continue;
    const auto top = draw(q.to(device), k.to(device), TopScores{3});
    EXPECT_THAT(picks(top.indices), testing::ElementsAre(1, 0, 2));
    EXPECT_THAT(top.log_prob.to_vector<float>(),
                testing::ElementsAre(testing::FloatEq(0.f),
                                     testing::FloatNear(-std::log1p(std::exp(-1.f)), 0x1p-18f),
                                     testing::FloatEq(0.f)));
  }
}

TEST(AttentionTopkSample, TooFewOrNoKeys) {
  for (const Device device : {Device::cpu, Device::cuda}) {
    if (!available(device)) continue;
    Tensor q = Tensor::full({2, 1, 1}, 1.0, {.device = device});
    q.set_requires_grad();
    const Tensor k = Tensor::from<float>({1, 2, 3, 4, 5, 6}, {2, 3, 1}).to(device);
    const Tensor mask = Tensor::from<int32_t>({0, 1, 1, 0, 0, 0}, {2, 3}).to(device);
    for_laws(3, [&](const std::string& name, auto law) {
      SCOPED_TRACE(name);
      const auto drawn = draw(q, k, law, {.key_mask = mask});
      std::vector<int32_t> i = picks(drawn.indices);
      const bool replaced = name == "with_replacement";
      EXPECT_EQ(std::count(i.begin(), i.begin() + 3, -1), replaced ? 0 : 1);
      EXPECT_EQ(std::count(i.begin(), i.begin() + 3, 0), 0);  // masked
      EXPECT_EQ(std::count(i.begin() + 3, i.end(), -1), 3);
      const std::vector<float> log_prob = floats(drawn.log_prob);
      for (size_t t = 0; t < 6; ++t) {
        if (i[t] < 0) {
          EXPECT_EQ(log_prob[t], 0);
        }
      }
      const Tensor g = Tensor::full(drawn.log_prob.shape(), 1.0, {.device = device});
      EXPECT_EQ(floats(vjp(drawn.log_prob, q, g))[1], 0);
    });
  }
}

TEST(AttentionTopkSample, ScoresThatAreNotFinite) {
  const float inf = std::numeric_limits<float>::infinity();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const Tensor k = Tensor::from<float>({1, nan, 2, 1, inf, 2, 1, -inf, 2}, {3, 3, 1});
  for (const Device device : {Device::cpu, Device::cuda}) {
    if (!available(device)) continue;
    const Tensor q = Tensor::full({3, 1, 1}, 1.0, {.device = device});
    for_laws(2, [&](const std::string& name, auto law) {
      SCOPED_TRACE(name);
      const auto drawn = draw(q, k.to(device), law);
      const std::vector<int32_t> i = picks(drawn.indices);
      const std::vector<float> log_prob = floats(drawn.log_prob);
      for (size_t t = 0; t < 4; ++t) {
        EXPECT_EQ(i[t], -1);
        EXPECT_TRUE(std::isnan(log_prob[t]));
      }
      for (size_t t = 4; t < 6; ++t) {
        EXPECT_TRUE(i[t] == 0 || i[t] == 2) << i[t];  // -inf: never drawn
        EXPECT_TRUE(std::isfinite(log_prob[t]));
      }
    });
  }
}

// 64 of 16,384 keys: what it takes beyond the copy of the keys does not depend on their number.
TEST(AttentionTopkSample, MemoryIsLinear) {
  const auto peak = [](int64_t keys) {
    const Tensor q = random_tensor({1, 48, 16}, 1).to(DType::f32);
    const Tensor k = random_tensor({1, keys, 16}, 2).to(DType::f32);
    reset_peak_memory(Device::cpu);
    const int64_t before = memory_stats(Device::cpu).peak;
    const auto drawn = draw(q, k, PlackettLuce{64});
    EXPECT_THAT(picks(drawn.indices), testing::Each(testing::Ge(0)));
    return memory_stats(Device::cpu).peak - before;
  };
  EXPECT_LE(peak(16384), 4 * peak(4096));
}

TEST(AttentionTopkSample, RefusesWrongInputs) {
  const Tensor q = Tensor::zeros({2, 3, 4}), k = Tensor::zeros({2, 5, 4});
  const TopScores one{1};
  EXPECT_THROW(sample(Tensor::zeros({3, 4}), k, one), ShapeError);
  EXPECT_THROW(sample(q, Tensor::zeros({1, 5, 4}), one), ShapeError);
  EXPECT_THROW(sample(q, Tensor::zeros({2, 5, 3}), one), ShapeError);
  EXPECT_THROW(sample(Tensor::zeros({1, 1, 129}), Tensor::zeros({1, 5, 129}), one), ShapeError);
  EXPECT_THROW(sample(q, k, TopScores{0}), OptionError);
  EXPECT_THROW(sample(q, k, TopScores{6}), OptionError);
  EXPECT_THROW(sample(q, Tensor::zeros({2, 70, 4}), TopScores{65}), OptionError);
  for (const double temperature : {0.0, -1.0, std::numeric_limits<double>::quiet_NaN()})
    EXPECT_THROW(sample(q, k, one, {.temperature = temperature}), OptionError);
  EXPECT_THROW(sample(q, k, one, {.key_mask = Tensor::zeros({2, 5})}), TypeError);
  const Tensor narrow = Tensor::zeros({2, 4}, {.dtype = DType::i32});
  EXPECT_THROW(sample(q, k, one, {.key_mask = narrow}), ShapeError);
  EXPECT_EQ(sample(Tensor::zeros({0, 3, 4}), Tensor::zeros({0, 5, 4}), one).indices.numel(), 0);
}

TEST(AttentionTopkSample, DrawsMoveOn) {
  const Tensor q = Tensor::zeros({1, 20, 2}), k = Tensor::zeros({1, 30, 2});
  Philox random(kSeed);
  const std::vector<int32_t> first = picks(sample(q, k, PlackettLuce{5}, random).indices);
  EXPECT_NE(picks(sample(q, k, PlackettLuce{5}, random).indices), first);
  const std::vector<int32_t> other = picks(sample(q, k, WithReplacement{5}, random).indices);
  EXPECT_NE(picks(sample(q, k, WithReplacement{5}, random).indices), other);
}

}  // namespace
}  // namespace stillpoint::test
