#include <gmock/gmock.h>

#include <cmath>
#include <limits>

#include "engine/ops.h"
#include "engine/optim/adamw.h"
#include "engine/optim/schedule.h"
#include "tests/support/op_test.h"

namespace stillpoint::test {
namespace {

using optim::AdamW;
using optim::AdamWOptions;

Tensor leaf(std::vector<float> v, Device device = Device::cpu) {
  Tensor t = Tensor::from(v, {static_cast<int64_t>(v.size())}).to(device);
  return t.set_requires_grad();
}

// One step towards the minimum of |p - 1|^2.
void descend(AdamW& optimiser, const Tensor& p) {
  backward(ops::sum(ops::square(ops::affine(p, 1.0, -1.0))));
  optimiser.step();
}

TEST(AdamW, FindsAMinimum) {
  for (const Device device : {Device::cpu, Device::cuda}) {
    if (!available(device)) continue;
    const Tensor p = leaf({5, -3, 0.5}, device);
    AdamW optimiser({{"p", p}}, {.learning_rate = 0.1, .weight_decay = 0, .clip_norm = 1.0});
    for (int step = 0; step < 300; ++step) descend(optimiser, p);
    for (const float v : p.to_vector<float>()) EXPECT_NEAR(v, 1, 1e-2) << name(device);
    EXPECT_EQ(optimiser.steps(), 300);
    EXPECT_LT(optimiser.gradient_norm().item(), 0.1);
  }
}

TEST(AdamW, FirstStepByHand) {
  // In the first step m / sqrt(v) is the sign of the gradient: 2 - 0.5 (1 + 0.1 * 2), -4 + 0.5 (1 +
  // 0.1 * 4).
  const Tensor p = leaf({2, -4});
  AdamW optimiser({{"p", p}}, {.learning_rate = 0.5, .weight_decay = 0.1});
  descend(optimiser, p);
  EXPECT_THAT(p.to_vector<float>(), testing::ElementsAre(testing::FloatNear(1.4f, 1e-6f),
                                                         testing::FloatNear(-3.3f, 1e-6f)));
  EXPECT_FALSE(p.grad().defined());
}

TEST(AdamW, DecaysMatricesOnly) {
  Tensor matrix = Tensor::full({1, 1}, 1.0), vector = Tensor::full({1}, 1.0);
  matrix.set_requires_grad();
  vector.set_requires_grad();
  AdamW optimiser({{"matrix", matrix}, {"vector", vector}},
                  {.learning_rate = 0.5, .weight_decay = 0.5, .decay = optim::Decay::matrices});
  backward(ops::affine(ops::add(ops::sum(matrix), ops::sum(vector)), 0.0));
  optimiser.step();
  EXPECT_FLOAT_EQ(static_cast<float>(matrix.item()), 0.75f);
  EXPECT_EQ(vector.item(), 1);
}

TEST(AdamW, LeavesParametersWithoutGradientAlone) {
  const Tensor used = leaf({3}), unused = leaf({3});
  AdamW optimiser({{"used", used}, {"unused", unused}}, {});
  descend(optimiser, used);
  EXPECT_LT(used.item(), 3);
  EXPECT_EQ(unused.item(), 3);
  EXPECT_THROW(optimiser.step(), GradientError);
  EXPECT_EQ(optimiser.steps(), 1);
}

TEST(AdamW, ResumesFromItsStateBitForBit) {
  const AdamWOptions options{.learning_rate = 0.05, .average_decay = 0.9};
  const Tensor p = leaf({5, -3, 0.5});
  AdamW straight({{"p", p}}, options);
  for (int step = 0; step < 3; ++step) descend(straight, p);

  const Tensor q = leaf(p.to_vector<float>());
  AdamW resumed({{"p", q}}, options);
  NamedTensors saved;
  for (const auto& [key, t] : straight.state()) saved[key] = t.clone();
  EXPECT_EQ(saved.size(), 4u);
  EXPECT_EQ(saved.count("optim.average.p"), 1u);
  resumed.load_state(saved);
  for (int step = 0; step < 3; ++step) {
    descend(straight, p);
    descend(resumed, q);
  }
  expect_same_bits(q, p, "parameter");
  expect_same_bits(resumed.averages().at("p"), straight.averages().at("p"), "average");
  EXPECT_EQ(resumed.steps(), 6);
  saved.erase("optim.second.p");
  EXPECT_THROW(resumed.load_state(saved), FormatError);
}

TEST(AdamW, AveragesWeights) {
  const Tensor p = leaf({0});
  AdamW optimiser({{"p", p}}, {.learning_rate = 1, .weight_decay = 0, .average_decay = 0.2});
  descend(optimiser, p);  // to 1 (almost), with decay min(0.2, 1 / 10)
  EXPECT_NEAR(optimiser.averages().at("p").item(), 0.9, 1e-6);
  const float own = p.to_vector<float>()[0];
  {
    const optim::AveragedParameters averaged(optimiser);
    EXPECT_NEAR(p.item(), 0.9, 1e-6);
  }
  EXPECT_EQ(p.to_vector<float>()[0], own);
}

TEST(AdamW, RefusesWrongOptions) {
  const auto make = [](const AdamWOptions& options) { AdamW({{"p", leaf({1})}}, options); };
  EXPECT_NO_THROW(make({}));
  EXPECT_THROW(make({.beta1 = 1}), OptionError);
  EXPECT_THROW(make({.epsilon = 0}), OptionError);
  EXPECT_THROW(make({.weight_decay = -1}), OptionError);
  EXPECT_THROW(make({.clip_norm = 0.0}), OptionError);
  EXPECT_THROW(make({.average_decay = 1.0}), OptionError);
  EXPECT_THROW(AdamW({{"p", Tensor::zeros({1})}}), OptionError);
}

TEST(AdamW, RefusesTensorsItCannotTrain) {
  const Tensor p = leaf({1, 2}), none = leaf({});
  const auto tied = [&] { AdamW({{"first", p}, {"second", p}}); };
  EXPECT_THAT(tied, testing::ThrowsMessage<OptionError>(testing::HasSubstr("second and first")));
  EXPECT_THROW(AdamW({{"p", ops::square(p)}}), OptionError);
  EXPECT_NO_THROW(AdamW({{"first", none}, {"second", none}}));
}

TEST(AdamW, RefusesForgedSteps) {
  const Tensor p = leaf({1});
  AdamW optimiser({{"p", p}});
  NamedTensors saved;
  for (const auto& [key, t] : optimiser.state()) saved[key] = t.clone();
  for (const int32_t step : {-1, std::numeric_limits<int32_t>::max()}) {
    saved["optim.step"] = Tensor::from<int32_t>({step}, {});
    EXPECT_THROW(optimiser.load_state(saved), FormatError) << step;
    EXPECT_EQ(optimiser.steps(), 0);
  }
  saved["optim.step"] = Tensor::from<int32_t>({std::numeric_limits<int32_t>::max() - 1}, {});
  optimiser.load_state(saved);
  descend(optimiser, p);
  EXPECT_THROW(descend(optimiser, p), OptionError);
}

TEST(Schedule, RisesAndFalls) {
  const optim::WarmupCosine rate{.peak = 2, .warmup = 4, .total = 14, .floor = 0.5};
  EXPECT_DOUBLE_EQ(rate(0), 0.5);
  EXPECT_DOUBLE_EQ(rate(3), 2);
  EXPECT_DOUBLE_EQ(rate(4), 2);
  EXPECT_DOUBLE_EQ(rate(9), 1.25);
  EXPECT_DOUBLE_EQ(rate(14), 0.5);
  EXPECT_DOUBLE_EQ(rate(1000), 0.5);
  EXPECT_DOUBLE_EQ((optim::WarmupCosine{.peak = 3})(0), 3);
}

}  // namespace
}  // namespace stillpoint::test
