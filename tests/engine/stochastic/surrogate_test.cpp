#include "engine/stochastic/surrogate.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <functional>

#include "engine/ops.h"
#include "kernels/common/parallel.h"
#include "tests/support/op_test.h"

namespace stillpoint::stochastic {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pointwise;
using testing::ThrowsMessage;

Tensor ints(const std::vector<int32_t>& values, Shape shape) {
  return Tensor::from(values, std::move(shape));
}

Tensor doubles(const std::vector<double>& values, Shape shape) {
  return Tensor::from(values, std::move(shape)).set_requires_grad();
}

// ---- hops --------------------------------------------------------------------------------------

TEST(Hops, CountsEdgesUpToTheLimit) {
  // 0 -> 1 -> 2 -> 0, and 3, which has nobody and whom nobody has.
  const Tensor ring = ints({1, -1, 2, 2, 0, 2, -1, -1}, {1, 4, 2});
  EXPECT_THAT(hops(ring, 5).to_vector<int32_t>(),
              ElementsAre(0, 1, 2, -1, 2, 0, 1, -1, 1, 2, 0, -1, -1, -1, -1, 0));
  EXPECT_THAT(hops(ring, 1).to_vector<int32_t>(),
              ElementsAre(0, 1, -1, -1, -1, 0, 1, -1, 1, -1, 0, -1, -1, -1, -1, 0));
  EXPECT_THAT(hops(ring, 0).to_vector<int32_t>(),
              ElementsAre(0, -1, -1, -1, -1, 0, -1, -1, -1, -1, 0, -1, -1, -1, -1, 0));
}

TEST(Hops, AreLateByWhatIsAsked) {
  const Tensor ring = ints({1, -1, 2, 2, 0, 2, -1, -1}, {1, 4, 2});
  EXPECT_THAT(hops(ring, 1, 2).to_vector<int32_t>(),
              ElementsAre(2, 3, -1, -1, -1, 2, 3, -1, 3, -1, 2, -1, -1, -1, -1, 2));
  EXPECT_THROW((void)hops(ring, 1, -1), OptionError);
}

// Floyd and Warshall's way, for every run of its own.
TEST(Hops, AreTheShortestWaysOfEveryRun) {
  constexpr int64_t kRuns = 5, kNodes = 23, kLimit = 4;
  const Tensor neighbours = test::random_indices({kRuns, kNodes, 2}, kNodes, 7);
  const auto lists = neighbours.to_vector<int32_t>();
  const auto got = hops(neighbours, kLimit).to_vector<int32_t>();
  for (int64_t r = 0; r < kRuns; ++r) {
    std::vector<int32_t> wanted(kNodes * kNodes, 1000);
    const auto at = [&](int64_t i, int64_t j) -> int32_t& {
      return wanted[static_cast<size_t>(i * kNodes + j)];
    };
    for (int64_t i = 0; i < kNodes; ++i) {
      for (int64_t e = 0; e < 2; ++e)
        at(i, lists[static_cast<size_t>((r * kNodes + i) * 2 + e)]) = 1;
      at(i, i) = 0;
    }
    for (int64_t m = 0; m < kNodes; ++m)
      for (int64_t i = 0; i < kNodes; ++i)
        for (int64_t j = 0; j < kNodes; ++j) at(i, j) = std::min(at(i, j), at(i, m) + at(m, j));
    for (int32_t& w : wanted) w = w > kLimit ? -1 : w;
    const auto first = got.begin() + r * kNodes * kNodes;
    EXPECT_EQ(std::vector<int32_t>(first, first + kNodes * kNodes), wanted) << r;
  }
}

TEST(Hops, RefusesWhatIsNoNeighbourhood) {
  EXPECT_THAT(
      [] {
        (void)hops(ints({0, 2}, {1, 2, 1}), 1);
      },
      ThrowsMessage<OptionError>(HasSubstr("neighbour 2, wanted below 2")));
  EXPECT_THROW((void)hops(ints({0, 1}, {2, 1}), 1), ShapeError);
  EXPECT_THROW((void)hops(ints({0, 1}, {1, 2, 1}), -1), OptionError);
  EXPECT_THROW((void)hops(Tensor::zeros({1, 2, 1}), 1), TypeError);
  EXPECT_EQ(hops(Tensor::zeros({0, 2, 1}, {DType::i32}), 1).shape(), (Shape{0, 2, 2}));
}

// ---- surrogate_loss ----------------------------------------------------------------------------

// Two runs, two steps, two nodes. Node 0 hears of node 1's sample with the second step alone; of
// node 0's sample node 1 never hears.
struct Example {
  Tensor costs = doubles({1, 2, 10, 20, 4, 8, 40, 80}, {2, 2, 2});
  Tensor log_prob = doubles({-1, -2, -3, -5}, {2, 2});
  Tensor hops = ints({0, 1, -1, 0, 0, 1, -1, 0}, {2, 2, 2});

  // Gradients in log_prob and costs.
  std::vector<double> of(const Sampled& sampled, const SurrogateOptions& options) {
    log_prob.set_grad({});
    costs.set_grad({});
    backward(surrogate_loss(costs, {sampled}, options));
    return log_prob.grad().to_vector<double>();
  }
};

TEST(SurrogateLoss, CreditsTheCostsDownstream) {
  Example e;
  EXPECT_THAT(e.of({e.log_prob, e.hops}, {}),
              ElementsAre(5 / 8., 14 / 8., 50 / 8., 140 / 8.));  // 1+4, 2+8+4; the same times ten
  EXPECT_THAT(e.costs.grad().to_vector<double>(), testing::Each(1 / 8.));
  EXPECT_THAT(e.of({e.log_prob}, {}), ElementsAre(15 / 8., 15 / 8., 150 / 8., 150 / 8.));
}

TEST(SurrogateLoss, DiscountsLaterCostsForSamplesAlone) {
  Example e;
  EXPECT_THAT(
      e.of({e.log_prob, e.hops}, {.discount = 0.25}),
      ElementsAre(2 / 8., 5 / 8., 20 / 8., 50 / 8.));  // 1+4/4, 2+8/4+4/4; the same times ten
  EXPECT_THAT(e.costs.grad().to_vector<double>(), testing::Each(1 / 8.));
  EXPECT_THROW(e.of({e.log_prob, e.hops}, {.discount = 1.5}), OptionError);
  EXPECT_THROW(e.of({e.log_prob, e.hops}, {.discount = NAN}), OptionError);
}

TEST(SurrogateLoss, BaselinesLeaveTheRunOut) {
  Example e;
  const std::vector<double> wanted = {-45 / 8., -126 / 8., 45 / 8., 126 / 8.};
  EXPECT_EQ(e.of({e.log_prob, e.hops}, {.baseline = Baseline::others_in_batch}), wanted);
  EXPECT_EQ(e.of({e.log_prob, e.hops}, {.baseline = Baseline::others_of_board, .draws = 2}),
            wanted);
}

TEST(SurrogateLoss, GroupsAreTheDrawsOfABoard) {
  const Tensor costs = doubles({1, 3, 8, 10, 20, 60}, {1, 6, 1});
  Tensor log_prob = doubles({0, 0, 0, 0, 0, 0}, {6, 1});
  const auto gradient = [&](const SurrogateOptions& options) {
    log_prob.set_grad({});
    backward(surrogate_loss(costs, {{.log_prob = log_prob}}, options));
    return log_prob.grad().to_vector<double>();
  };
  using testing::DoubleEq;
  EXPECT_THAT(
      gradient({.baseline = Baseline::others_of_board, .draws = 3}),
      ElementsAre(DoubleEq((1 - 5.5) / 6), DoubleEq((3 - 4.5) / 6), DoubleEq((8 - 2.) / 6),
                  DoubleEq((10 - 40.) / 6), DoubleEq((20 - 35.) / 6), DoubleEq((60 - 15.) / 6)));
  EXPECT_THAT(gradient({.baseline = Baseline::others_in_batch, .draws = 3}),
              testing::Contains(DoubleEq((1 - 101 / 5.) / 6)));
}

TEST(SurrogateLoss, EntropyIsCreditedWithTheSurprise) {
  Example e;
  EXPECT_THAT(e.of({e.log_prob, e.hops}, {.entropy = 8}),
              ElementsAre(5 / 8. - 2, 14 / 8. - 4, 50 / 8. - 6, 140 / 8. - 10));
  EXPECT_THAT(e.of({e.log_prob, e.hops}, {.baseline = Baseline::others_in_batch, .entropy = 8}),
              ElementsAre(-45 / 8. + 4, -126 / 8. + 6, 45 / 8. - 4, 126 / 8. - 6));
}

TEST(SurrogateLoss, SumsOverWhatWasSampled) {
  Example e;
  Tensor other = doubles({0, 0}, {2, 1});
  backward(surrogate_loss(e.costs, {{e.log_prob, e.hops}, {.log_prob = other}}));
  EXPECT_THAT(e.log_prob.grad().to_vector<double>(), ElementsAre(5 / 8., 14 / 8., 50 / 8., 17.5));
  EXPECT_THAT(other.grad().to_vector<double>(), ElementsAre(15 / 8., 150 / 8.));
}

TEST(SurrogateLoss, SameBitsOnEveryDeviceAndForAnyThreads) {
  const Tensor costs = test::random_tensor({3, 12, 9}, 1).to(DType::f32);
  const Tensor neighbours = test::random_indices({12, 9, 2}, 9, 2);
  const Tensor start = test::random_tensor({12, 9}, 3).to(DType::f32);
  const auto gradient = [&](Device device) {
    Tensor log_prob = start.to(device).clone().set_requires_grad();
    backward(surrogate_loss(costs.to(device), {{log_prob, hops(neighbours, 2)}},
                            {.baseline = Baseline::others_of_board, .draws = 4, .entropy = 0.1}));
    return log_prob.grad().to_vector<float>();
  };
  kernels::set_num_threads(1);
  const std::vector<float> wanted = gradient(Device::cpu);
  for (const int threads : {2, 3}) {
    kernels::set_num_threads(threads);
    EXPECT_EQ(gradient(Device::cpu), wanted) << threads;
  }
  kernels::set_num_threads(0);
  if (available(Device::cuda)) {
    EXPECT_EQ(gradient(Device::cuda), wanted);
  }
}

TEST(SurrogateLoss, RefusesWhatDoesNotFit) {
  const Example e;
  const Sampled whole{e.log_prob, e.hops};
  const auto refuses = [&](const char* message, const std::function<void()>& call) {
    EXPECT_THAT(call, testing::Throws<Error>(testing::Property(&Error::what, HasSubstr(message))));
  };
  refuses("costs have shape [2, 4]", [&] {
    (void)surrogate_loss(ops::reshape(e.costs, {2, 4}), {whole});
  });
  refuses("costs have shape [2, 0, 2]", [&] {
    (void)surrogate_loss(Tensor::zeros({2, 0, 2}, {DType::f64}), {});
  });
  refuses("log_prob has shape [4], wanted [2, samples]",
          [&] { (void)surrogate_loss(e.costs, {{.log_prob = ops::reshape(e.log_prob, {4})}}); });
  refuses("hops", [&] { (void)surrogate_loss(e.costs, {{e.log_prob, ints({0, 0}, {1, 2, 1})}}); });
  refuses("3 draws of every board in 2 runs",
          [&] { (void)surrogate_loss(e.costs, {whole}, {.draws = 3}); });
  refuses("groups of one run",
          [&] { (void)surrogate_loss(e.costs, {whole}, {.baseline = Baseline::others_of_board}); });
  EXPECT_THROW((void)surrogate_loss(e.costs, {{.log_prob = Tensor::zeros({2, 2})}}), TypeError);
}

}  // namespace
}  // namespace stillpoint::stochastic
