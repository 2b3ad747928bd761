#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "engine/autograd.h"
#include "engine/memory.h"
#include "engine/sampling.h"
#include "tests/ops/sample_draws.h"
#include "tests/support/op_test.h"

namespace stillpoint::test {
namespace {

// A score of another law's draws does not compile.
template <class S>
concept HasOrderedScore = requires(const S& s) {
  ordered_score(s);
};
template <class S>
concept HasSetScore = requires(const S& s) {
  set_score(s);
};
template <class S>
concept HasScore = requires(const S& s) {
  score(s);
};
static_assert(HasOrderedScore<Sample<PlackettLuce>> && HasScore<Sample<WithReplacement>>);
static_assert(HasSetScore<Sample<PlackettLuce>> && !HasScore<Sample<PlackettLuce>>);
static_assert(!HasOrderedScore<Sample<WithReplacement>> && !HasSetScore<Sample<WithReplacement>>);
static_assert(!HasOrderedScore<Sample<TopScores>> && !HasSetScore<Sample<TopScores>>);
static_assert(!HasScore<Sample<TopScores>>);
static_assert(HasScore<Sample<KSubset>>);
static_assert(!HasOrderedScore<Sample<KSubset>> && !HasSetScore<Sample<KSubset>>);
// Nor does one of tensors that do not say by which law they were drawn.
template <class S>
concept HasSetScoreOfParts = requires(const S& s) {
  set_score({s.indices, s.log_prob, s.log_normaliser});
};
static_assert(!HasSetScoreOfParts<Sample<WithReplacement>>);

std::vector<float> floats(const Tensor& t) { return t.to_vector<float>(); }

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

// What remains is added up, not subtracted, and by its own largest score: after the first draw it
// is e^-100 of the whole, less than float holds beside 1.
TEST(AttentionTopkSample, WhatRemainsKeepsItsDigits) {
  std::vector<OpCase> cases;
  for (const int64_t count : {1, 2, 3})
    for_laws(count, [&](const std::string& name, auto law) {
      cases.push_back(
          {.name = name + "_" + std::to_string(count),
           .inputs = {Tensor::full({1, 1, 1}, 1.0, {.dtype = DType::f64}),
                      Tensor::from<double>({0, 100, -1}, {1, 3, 1})},
           .op = [=](std::span<const Tensor> x) { return draw(x[0], x[1], law).log_prob; },
           .derivatives = Derivatives::first,
           .terms = 3});
    });
  check_op("attention_topk_sample", cases);
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

// As queries and keys grow together, forward and backward: four times as many take four times the
// bytes, fewer than one matrix of queries x keys has.
TEST(AttentionTopkSample, MemoryIsLinear) {
  for (const Device device : {Device::cpu, Device::cuda}) {
    if (!available(device)) continue;
    const int64_t most = device == Device::cpu ? 4096 : 1024;  // emulated, pairs are dear
    const auto peak = [&](int64_t n, auto law) {
      const Tensor q = random_tensor({1, n, 16}, 1).to(DType::f32).to(device).set_requires_grad();
      const Tensor k = random_tensor({1, n, 16}, 2).to(DType::f32).to(device).set_requires_grad();
      reset_peak_memory(device);
      const int64_t before = memory_stats(device).peak;
      const auto drawn = draw(q, k, law);
      EXPECT_THAT(picks(drawn.indices), testing::Each(testing::Ge(0)));
      (void)vjp(drawn.log_prob, q, Tensor::full(drawn.log_prob.shape(), 1.0, {.device = device}));
      return memory_stats(device).peak - before;
    };
    const auto test = [&](const char* name, auto law) {
      const int64_t bytes = peak(most, law), matrix = most * most * int64_t{sizeof(float)};
      EXPECT_LT(bytes, matrix) << name;
      EXPECT_LE(bytes, 4 * peak(most / 4, law)) << name;
    };
    test("plackett_luce", PlackettLuce{16});
    test("with_replacement", WithReplacement{16});
  }
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
