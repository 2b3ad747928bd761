#include <gmock/gmock.h>

#include <cmath>
#include <limits>

#include "engine/optim/multi_tensor.h"
#include "kernels/common/parallel.h"
#include "kernels/common/simd.h"
#include "tests/support/op_test.h"

namespace stillpoint::test {
namespace {

const std::vector<Shape> kShapes = {{257}, {0}, {1}, {31, 33}, {3, 1024}, {2048}, {7, 5}, {0, 4}};

// AdamW as in the paper, on one long list of numbers, in double.
struct PlainAdamw {
  std::vector<double> p, m, v, average;
  std::vector<double> decay;  // of every element

  void step(const std::vector<double>& gradient, const optim::AdamwStep& o, double clip) {
    double squares = 0;
    for (const double g : gradient) squares += g * g;
    const double norm = std::sqrt(squares), scale = norm > clip ? clip / norm : 1;
    for (size_t k = 0; k < p.size(); ++k) {
      const double g = scale * gradient[k];
      m[k] = o.beta1 * m[k] + (1 - o.beta1) * g;
      v[k] = o.beta2 * v[k] + (1 - o.beta2) * g * g;
      const double mean = m[k] / (1 - std::pow(o.beta1, static_cast<double>(o.step)));
      const double square = v[k] / (1 - std::pow(o.beta2, static_cast<double>(o.step)));
      p[k] *= 1 - o.learning_rate * decay[k];
      p[k] -= o.learning_rate * mean / (std::sqrt(square) + o.epsilon);
      average[k] = o.average_decay * average[k] + (1 - o.average_decay) * p[k];
    }
  }
};

// Slots with random parameters and gradients; every other one has weight decay and an average.
std::vector<optim::Slot> make_slots(TensorOptions options,
                                    const std::vector<Shape>& shapes = kShapes) {
  std::vector<optim::Slot> slots;
  for (size_t i = 0; i < shapes.size(); ++i) {
    const auto place = [&](const Tensor& t) { return t.to(options.dtype).to(options.device); };
    const Tensor p = random_tensor(shapes[i], 10 + i);
    const Tensor zero = Tensor::zeros(shapes[i], {.dtype = DType::f64});
    slots.push_back({.parameter = place(p).clone(),
                     .gradient = place(zero).clone(),
                     .first = place(zero).clone(),
                     .second = place(zero).clone(),
                     .average = i % 2 == 0 ? place(p).clone() : Tensor(),
                     .weight_decay = i % 2 == 0 ? 0.1 : 0.0});
  }
  return slots;
}

Tensor gradient_of_step(const Shape& shape, size_t slot, int64_t step) {
  return random_tensor(shape, 1000 * static_cast<uint64_t>(step) + slot, 0.05);
}

constexpr double kClip = 1.2;  // gradients of make_slots have a norm near 2

optim::AdamwStep options_of_step(int64_t step) {
  return {.learning_rate = 0.01 / static_cast<double>(step),
          .beta1 = 0.9,
          .beta2 = 0.99,
          .epsilon = 1e-6,
          .average_decay = 0.9,
          .step = step};
}

// The parameters after some steps.
std::vector<optim::Slot> train(TensorOptions options, int64_t steps,
                               const std::vector<Shape>& shapes = kShapes) {
  std::vector<optim::Slot> slots = make_slots(options, shapes);
  optim::SlotTable table;
  for (int64_t step = 1; step <= steps; ++step) {
    for (size_t i = 0; i < slots.size(); ++i)
      slots[i].gradient = gradient_of_step(shapes[i], i, step).to(options.dtype).to(options.device);
    table.set(slots);
    optim::AdamwStep o = options_of_step(step);
    o.gradient_scale = optim::gradient_norm(table, kClip).alias({}, 1);
    optim::adamw(table, o);
  }
  return slots;
}

std::vector<double> flat(const std::vector<optim::Slot>& slots, Tensor optim::Slot::*member) {
  std::vector<double> all;
  for (const optim::Slot& slot : slots) {
    const Tensor& t = slot.*member ? slot.*member : slot.parameter;
    const std::vector<double> v = t.to(Device::cpu).to(DType::f64).to_vector<double>();
    all.insert(all.end(), v.begin(), v.end());
  }
  return all;
}

// What `train` should give.
PlainAdamw train_plainly(int64_t steps) {
  const std::vector<optim::Slot> start = make_slots({.dtype = DType::f64});
  PlainAdamw plain;
  plain.p = plain.average = flat(start, &optim::Slot::parameter);
  plain.m = plain.v = std::vector<double>(plain.p.size());
  for (const optim::Slot& slot : start)
    plain.decay.insert(plain.decay.end(), static_cast<size_t>(slot.parameter.numel()),
                       slot.weight_decay);
  for (int64_t step = 1; step <= steps; ++step) {
    std::vector<double> gradient;
    for (size_t i = 0; i < start.size(); ++i) {
      const std::vector<double> g = gradient_of_step(kShapes[i], i, step).to_vector<double>();
      gradient.insert(gradient.end(), g.begin(), g.end());
    }
    plain.step(gradient, options_of_step(step), kClip);
  }
  return plain;
}

void expect_near(const std::vector<double>& got, const std::vector<double>& wanted,
                 double tolerance, const std::string& what) {
  ASSERT_EQ(got.size(), wanted.size()) << what;
  for (size_t k = 0; k < got.size(); ++k)
    ASSERT_NEAR(got[k], wanted[k], tolerance * std::max(1.0, std::abs(wanted[k])))
        << what << " element " << k;
}

void expect_plain(const std::vector<optim::Slot>& got, const PlainAdamw& wanted, double tolerance,
                  const std::string& where) {
  expect_near(flat(got, &optim::Slot::parameter), wanted.p, tolerance, where + " parameter");
  expect_near(flat(got, &optim::Slot::first), wanted.m, tolerance, where + " first moment");
  expect_near(flat(got, &optim::Slot::second), wanted.v, tolerance, where + " second moment");
  // Slots without an average show their parameter instead.
  std::vector<double> averages;
  size_t k = 0;
  for (const optim::Slot& slot : got)
    for (int64_t n = 0; n < slot.parameter.numel(); ++n, ++k)
      averages.push_back(slot.average ? wanted.average[k] : wanted.p[k]);
  expect_near(flat(got, &optim::Slot::average), averages, tolerance, where + " average");
}

TEST(Adamw, IsThePlainLoop) {
  constexpr int64_t kSteps = 50;
  const PlainAdamw wanted = train_plainly(kSteps);
  expect_plain(train({.dtype = DType::f64}, kSteps), wanted, 1e-12, "reference");
  // Every step may round a parameter once more.
  const double tolerance = 8 * std::numeric_limits<float>::epsilon() * std::sqrt(double{kSteps});
  for (const std::string& isa : kernels::available_isas()) {
    ASSERT_TRUE(kernels::force_isa(isa));
    expect_plain(train({}, kSteps), wanted, tolerance, isa);
  }
  kernels::force_isa("");
  if (available(Device::cuda))
    expect_plain(train({.device = Device::cuda}, kSteps), wanted, tolerance, "cuda");
}

TEST(Adamw, SameBitsWithAnyNumberOfThreads) {
  const std::vector<Shape> shapes = {{40000}, {3}, {20, 1025}};
  kernels::set_num_threads(1);
  const std::vector<optim::Slot> wanted = train({}, 3, shapes);
  for (const int threads : {2, 3}) {
    kernels::set_num_threads(threads);
    const std::vector<optim::Slot> got = train({}, 3, shapes);
    for (size_t i = 0; i < got.size(); ++i)
      expect_same_bits(got[i].parameter, wanted[i].parameter, std::to_string(threads) + " threads");
  }
  kernels::set_num_threads(0);
}

TEST(GradientNorm, OfAllTensorsTogether) {
  for (const Device device : {Device::cpu, Device::cuda}) {
    if (!available(device)) continue;
    const auto vector = [device](std::vector<float> v) {
      return Tensor::from(v, {static_cast<int64_t>(v.size())}).to(device);
    };
    std::vector<optim::Slot> slots;
    for (const std::vector<float>& g : {std::vector<float>{3}, {}, {0, 4, 12}}) {
      const Tensor t = vector(g);
      slots.push_back({.parameter = t, .gradient = t, .first = t, .second = t, .average = {}});
    }
    optim::SlotTable table;
    table.set(slots);
    EXPECT_THAT(optim::gradient_norm(table, 26).to_vector<float>(), testing::ElementsAre(13, 1));
    EXPECT_THAT(optim::gradient_norm(table, 6.5).to_vector<float>(),
                testing::ElementsAre(13, 0.5f));
    slots[0].gradient = vector({std::numeric_limits<float>::quiet_NaN()});
    table.set(slots);
    EXPECT_THAT(optim::gradient_norm(table, 1).to_vector<float>(), testing::Each(testing::IsNan()));
  }
}

TEST(Adamw, RefusesSlotsThatDoNotFit) {
  const Tensor two = Tensor::zeros({2}), three = Tensor::zeros({3});
  const auto set = [](const Tensor& parameter, const Tensor& gradient) {
    const optim::Slot slot{.parameter = parameter,
                           .gradient = gradient,
                           .first = parameter,
                           .second = parameter,
                           .average = {}};
    optim::SlotTable().set({&slot, 1});
  };
  EXPECT_NO_THROW(set(two, two));
  EXPECT_THROW(set(two, three), ShapeError);
  EXPECT_THROW(set(two, Tensor()), TypeError);
  EXPECT_THROW(set(two, Tensor::zeros({2}, {.dtype = DType::f64})), TypeError);
  EXPECT_THROW(optim::gradient_norm(optim::SlotTable(), 1), OptionError);
}

}  // namespace
}  // namespace stillpoint::test
