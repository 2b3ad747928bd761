#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "engine/ops.h"
#include "engine/sampling.h"
#include "kernels/common/parallel.h"
#include "kernels/common/simd.h"
#include "kernels/k_subset/k_subset_reference.h"
#include "tests/ops/sample_draws.h"
#include "tests/support/op_test.h"

namespace stillpoint::test {
namespace {

using testing::ElementsAre;

Sample<KSubset> draw_sets(const Tensor& scores, KSubset law, const SampleOptions& options = {}) {
  Philox random(kSeed);
  return sample(scores, law, random, options);
}
Sample<KSubset> draw_sets(const Tensor& scores, int64_t count, const SampleOptions& options = {}) {
  return draw_sets(scores, KSubset{count}, options);
}

OpCase make_case(const std::string& name, const Tensor& scores, int64_t count, int64_t draws = 1) {
  return {.name = name,
          .inputs = {scores},
          .op =
              [=](std::span<const Tensor> x) {
                return score(draw_sets(x[0], {count, draws}));
              },
          .derivatives = Derivatives::first,
          .terms = static_cast<double>(std::max<int64_t>(1, scores.dim(2) * count)),
          .gradient_probes = 8};
}

TEST(KSubset, AwkwardSizes) {
  std::vector<OpCase> cases;
  for (const int64_t n : kAwkwardSizes) {
    cases.push_back(make_case("rows_" + std::to_string(n), random_tensor({1, n, 5}, 1, 2), 2));
    cases.push_back(
        make_case("keys_" + std::to_string(n + 1), random_tensor({2, 2, n + 1}, 2, 2), 1));
  }
  for (const int64_t n : {1, 2, 14, 15, 16, 17, 31, 32, 63, 64}) {
    cases.push_back(make_case("picks_" + std::to_string(n), random_tensor({2, 2, 70}, 3, 2), n));
    cases.push_back(make_case("all_" + std::to_string(n), random_tensor({1, 2, n}, 4, 2), n));
  }
  for (const int64_t draws : {2, 5})
    cases.push_back(
        make_case("draws_" + std::to_string(draws), random_tensor({3, 4, 9}, 11, 2), 3, draws));
  cases.push_back(make_case("no_samples", random_tensor({0, 3, 5}, 5), 2));
  check_op("k_subset", cases);
}

// Alike, far apart, and a few keys far above or below the others.
TEST(KSubset, Magnitudes) {
  std::vector<OpCase> cases;
  for (const double scale : {0.0, 1.0, 10.0, 100.0})
    cases.push_back(
        make_case("scale_" + std::to_string(scale), random_tensor({2, 4, 33}, 6, scale), 7));
  for (const double gap : {-1e4, -60.0, 60.0, 1e4})
    for (const size_t keys : {size_t{1}, size_t{5}, size_t{7}}) {
      std::vector<double> v = random_tensor({2, 4, 20}, 7).to_vector<double>();
      for (size_t e = 0; e < v.size(); ++e) v[e] += e % 20 < keys ? gap : 0;
      cases.push_back(make_case("gap_" + std::to_string(gap) + "_of_" + std::to_string(keys),
                                Tensor::from(v, {2, 4, 20}), 5));
      if (std::abs(gap) > 100) cases.back().gradient_probes = 0;  // steps as long as draws are far
    }
  check_op("k_subset", cases);
}

// What draws of one query share changes none of them.
TEST(KSubset, DrawsAreThoseOfCopies) {
  constexpr int64_t kDraws = 3;
  const Tensor exact = random_tensor({2, 5, 21}, 12, 3).to(DType::f32);
  const Tensor batches = Tensor::from<int32_t>({0, 0, 0, 1, 1, 1}, {2 * kDraws});
  const Tensor copies =
      ops::reshape(ops::embedding(ops::reshape(exact, {2, 5 * 21}), batches), {2 * kDraws, 5, 21});
  std::vector<int32_t> seen(21, 1), seen_by_copies;
  seen[4] = seen[20] = 0;
  for (int64_t b = 0; b < 2 * kDraws; ++b)
    seen_by_copies.insert(seen_by_copies.end(), seen.begin(), seen.end());
  const Tensor masks = Tensor::from(seen_by_copies, {2 * kDraws, 21});
  for (const Device device : {Device::cpu, Device::cuda}) {
    if (!available(device)) continue;
    const auto got =
        draw_sets(exact.to(device), {7, kDraws}, {.key_mask = ops::rows(masks, 0, 2).to(device)});
    const auto wanted = draw_sets(copies.to(device), 7, {.key_mask = masks.to(device)});
    EXPECT_EQ(picks(got.indices), picks(wanted.indices));
    EXPECT_EQ(got.log_prob.to_vector<float>(), wanted.log_prob.to_vector<float>());
    EXPECT_EQ(got.log_normaliser.to_vector<float>(), wanted.log_normaliser.to_vector<float>());
  }
}

TEST(KSubset, NotFinite) {
  constexpr double kInf = std::numeric_limits<double>::infinity();
  OpCase c = make_case(
      "rows",
      Tensor::from<double>({1, NAN, 2, 1, kInf, 2, 1, -kInf, 2, -kInf, -kInf, 3}, {1, 4, 3}), 2);
  c.gradient_probes = 0;
  check_op("k_subset", {c});
  for (const Device device : {Device::cpu, Device::cuda}) {
    if (!available(device)) continue;
    const auto drawn = draw_sets(c.inputs[0].to(DType::f32).to(device), 2);
    EXPECT_THAT(picks(drawn.indices), ElementsAre(-1, -1, -1, -1, 0, 2, 2, -1));
    EXPECT_NEAR(drawn.log_normaliser.to_vector<float>()[3], 3, 1e-6);
    const auto twice = draw_sets(c.inputs[0].to(DType::f32).to(device), {2, 2});
    EXPECT_THAT(picks(twice.indices),
                ElementsAre(-1, -1, -1, -1, 0, 2, 2, -1, -1, -1, -1, -1, 0, 2, 2, -1));
    for (const size_t row : {0, 1, 4, 5})
      EXPECT_TRUE(std::isnan(twice.log_prob.to_vector<float>()[row]));
  }
}

TEST(KSubset, MaskedKeysAreNeverDrawn) {
  const Tensor mask = Tensor::from<int32_t>({1, 0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0}, {3, 4});
  for (const Device device : {Device::cpu, Device::cuda}) {
    if (!available(device)) continue;
    // A NaN that nobody sees does no harm.
    Tensor scores = Tensor::from<float>({0, NAN, 0, 0, 9, 9, 0, 9, 1, 2, 3, 4}, {3, 1, 4});
    scores = scores.to(device).set_requires_grad();
    const auto drawn = draw_sets(scores, 2, {.key_mask = mask.to(device)});
    const std::vector<int32_t> got = picks(drawn.indices);
    EXPECT_NE(got[0], 1);
    EXPECT_NE(got[1], 1);
    EXPECT_THAT(std::vector(got.begin() + 2, got.end()), ElementsAre(2, -1, -1, -1));
    backward(ops::sum(score(drawn)));
    const auto slope = scores.grad().to_vector<float>();
    for (const size_t hidden : {1, 4, 5, 7, 8, 9, 10, 11}) EXPECT_EQ(slope[hidden], 0) << hidden;
  }
}

// ---- the law -----------------------------------------------------------------------------------

// All sets of `count` of the weights, with their probabilities.
Outcomes subsets(const std::vector<double>& weights, int64_t count) {
  Outcomes all;
  std::vector<int> chosen(weights.size(), 0);
  std::fill(chosen.begin(), chosen.begin() + count, 1);
  double total = 0;
  do {
    Outcome set;
    double product = 1;
    for (size_t j = 0; j < weights.size(); ++j) {
      if (chosen[j] == 0) continue;
      set.push_back(static_cast<int32_t>(j));
      product *= weights[j];
    }
    total += all[set] = product;
  } while (std::prev_permutation(chosen.begin(), chosen.end()));
  for (auto& [set, probability] : all) probability /= total;
  return all;
}

const std::vector<double> kWeights = {0.05, 0.35, 0.2, 0.1, 0.3, 0.6, 0.02};

// Rows that all see keys of those weights.
Tensor scores_of(const std::vector<double>& weights, int64_t rows, Device device = Device::cpu) {
  std::vector<float> scores;
  for (const double w : weights) scores.push_back(static_cast<float>(std::log(w)));
  const auto keys = static_cast<int64_t>(weights.size());
  return ops::broadcast_to(Tensor::from(scores, {keys}).to(device), {1, rows, keys});
}

TEST(KSubset, ScoresAreLogsOfProbabilities) {
  for (const int64_t count : {1, 2, 3, 5, 7}) {
    const auto drawn = draw_sets(scores_of(kWeights, 20), count);
    const Outcomes wanted = subsets(kWeights, count);
    const std::vector<int32_t> index = picks(drawn.indices);
    const std::vector<float> got = score(drawn).to_vector<float>();
    for (size_t row = 0; row < got.size(); ++row) {
      const auto first = index.begin() + static_cast<ptrdiff_t>(row) * count;
      EXPECT_NEAR(got[row], std::log(wanted.at(Outcome(first, first + count))), 4e-6) << count;
    }
  }
}

TEST(KSubset, FrequenciesAreTheLaws) {
  for (const int64_t count : {1, 2, 5}) {
    for (const Device device : {Device::cpu, Device::cuda}) {
      if (!available(device)) continue;
      const int64_t rows = device == Device::cpu ? 40000 : 4000;
      const auto all = picks(draw_sets(scores_of(kWeights, rows, device), count).indices);
      Outcomes counts;
      for (auto i = all.begin(); i != all.end(); i += count) ++counts[Outcome(i, i + count)];
      const ChiSquare result(counts, subsets(kWeights, count), rows);
      EXPECT_LT(result.statistic, result.limit) << count << " on " << name(device);
    }
  }
}

// ---- the same picks everywhere -----------------------------------------------------------------

// Where two differ first, the uniform number must lie next to the bound that decides.
void expect_same_but_for_rounding(const std::vector<int32_t>& got, const Tensor& scores,
                                  int64_t count, const std::string& what) {
  const int64_t rows = scores.dim(1), keys = scores.dim(2);
  const kernels::KSubsetShape shape{.batch = 1,
                                    .queries = rows,
                                    .keys = keys,
                                    .count = count,
                                    .seed = kSeed,
                                    .stream = 0,
                                    .first_block = 0};
  const std::vector<double> values = scores.to_vector<double>();
  std::vector<double> workspace(static_cast<size_t>(kernels::reference::k_subset_workspace(shape)));
  kernels::KSubsetArgs<double> args{};
  args.scores = values.data();
  args.shape = shape;
  for (int64_t r = 0; r < rows; ++r) {
    const kernels::KSubsetRow<double> row(args, r);
    kernels::reference::KSubsetSums<double> sums(row, workspace.data());
    int64_t open = count;
    for (int64_t j = 0; j < keys; ++j) {
      const auto first = got.begin() + r * count;
      const bool taken = std::find(first, first + count, j) != first + count;
      const double u = double{kernels::k_subset_uniform(kernels::k_subset_words(shape, r, j), j)},
                   take = sums.take(j, open);
      if (taken != (u < take)) {
        EXPECT_NEAR(u, take, 1e-5) << what << ": row " << r << ", key " << j;
        break;
      }
      open -= taken;
    }
  }
}

TEST(KSubset, SamePicksButForRounding) {
  constexpr int64_t kCount = 20;
  const Tensor exact = random_tensor({1, 300, 81}, 8, 4);
  const Tensor scores = exact.to(DType::f32);
  const std::vector<int32_t> wanted = picks(draw_sets(scores, kCount).indices);
  expect_same_but_for_rounding(wanted, scores.to(DType::f64), kCount, "CPU");
  for (const int threads : {1, 2, 3}) {
    kernels::set_num_threads(threads);
    EXPECT_EQ(picks(draw_sets(scores, kCount).indices), wanted) << threads << " threads";
  }
  kernels::set_num_threads(0);
  const auto same = [&](const Tensor& on, const std::string& what) {
    expect_same_but_for_rounding(picks(draw_sets(on, kCount).indices), scores.to(DType::f64),
                                 kCount, what);
  };
  for (const std::string& isa : kernels::available_isas()) {
    kernels::force_isa(isa);
    same(scores, isa);
  }
  kernels::force_isa("");
  if (available(Device::cuda)) same(scores.to(Device::cuda), "CUDA");
}

TEST(KSubset, TakesQueriesAndKeysOrScores) {
  constexpr int64_t kWidth = 6, kCount = 3;
  Tensor q = random_tensor({2, 5, kWidth}, 9, 3).to(DType::f32).set_requires_grad();
  Tensor k = random_tensor({2, 7, kWidth}, 10, 3).to(DType::f32).set_requires_grad();
  const auto drawn = draw(q, k, KSubset{kCount}, {.temperature = 0.5});
  std::vector<float> scores;
  const auto qv = q.to_vector<float>(), kv = k.to_vector<float>();
  for (size_t b = 0; b < 2; ++b)
    for (size_t i = 0; i < 5; ++i)
      for (size_t j = 0; j < 7; ++j) {
        float dot = 0;
        for (size_t d = 0; d < kWidth; ++d)
          dot += qv[(b * 5 + i) * kWidth + d] * kv[(b * 7 + j) * kWidth + d];
        scores.push_back(dot / (0.5f * std::sqrt(6.f)));
      }
  const auto wanted = draw_sets(Tensor::from(scores, {2, 5, 7}), kCount);
  EXPECT_EQ(picks(drawn.indices), picks(wanted.indices));
  expect_close(drawn.log_prob, wanted.log_prob.to(DType::f64), 8, 64, "log_prob");
  backward(ops::sum(score(drawn)));
  EXPECT_EQ(q.grad().shape(), q.shape());
  EXPECT_EQ(k.grad().shape(), k.shape());
}

TEST(KSubset, RefusesWrongInputs) {
  EXPECT_THROW(draw_sets(Tensor::zeros({1, 2, 5}), 6), OptionError);
  EXPECT_THROW(draw_sets(Tensor::zeros({1, 2, 5}), 0), OptionError);
  EXPECT_THROW(draw_sets(Tensor::zeros({1, 2, 5}), {1, 0}), OptionError);
  EXPECT_THROW(draw_sets(Tensor::zeros({1, 2, 5}), {1, int64_t{1} << 40}), OptionError);
  EXPECT_THROW(draw_sets(Tensor::zeros({1, 2, 70}), 65), OptionError);
  EXPECT_THROW(draw_sets(Tensor::zeros({2, 5}), 1), ShapeError);
  EXPECT_THROW(draw_sets(Tensor::zeros({1, 2, 5}, {.dtype = DType::i32}), 1), TypeError);
  EXPECT_THROW(draw_sets(Tensor::zeros({1, 2, 5}), 1, {.temperature = 0}), OptionError);
  EXPECT_THROW(draw_sets(Tensor::zeros({1, 2, 5}), 1,
                         {.key_mask = Tensor::zeros({1, 4}, {.dtype = DType::i32})}),
               ShapeError);
}

TEST(KSubset, HasNoSecondDerivative) {
  Tensor x = Tensor::zeros({1, 1, 4});
  x.set_requires_grad();
  const Tensor one = Tensor::full({1, 1}, 1.0);
  const Tensor dx = vjp(score(draw_sets(x, 2)), x, one, {.create_graph = true});
  EXPECT_THROW(vjp(ops::sum(dx), x, Tensor::full({}, 1.0)), GradientError);
}

}  // namespace
}  // namespace stillpoint::test
