#include <gmock/gmock.h>

#include <cmath>

#include "engine/ops.h"
#include "engine/optim/muon.h"
#include "tests/support/op_test.h"

namespace stillpoint::test {
namespace {

using optim::AdamW;
using optim::AdamWOptions;
using optim::Muon;
using optim::orthogonalise;

Tensor random_matrix(int64_t rows, int64_t columns, uint64_t seed, TensorOptions options = {}) {
  Philox random(seed);
  return ops::normal({rows, columns}, random, 0.0, 1.0, options);
}

// Columns made orthonormal, one after the other, in double.
std::vector<std::vector<double>> orthonormal(int64_t size, int64_t count, uint64_t seed) {
  const std::vector<float> given = random_matrix(count, size, seed).to_vector<float>();
  std::vector<std::vector<double>> all;
  for (int64_t k = 0; k < count; ++k) {
    std::vector<double> v(given.begin() + k * size, given.begin() + (k + 1) * size);
    for (int pass = 0; pass < 2; ++pass)
      for (const auto& u : all) {
        double dot = 0;
        for (size_t i = 0; i < v.size(); ++i) dot += u[i] * v[i];
        for (size_t i = 0; i < v.size(); ++i) v[i] -= dot * u[i];
      }
    double squares = 0;
    for (const double x : v) squares += x * x;
    for (double& x : v) x /= std::sqrt(squares);
    all.push_back(v);
  }
  return all;
}

struct Decomposition {
  std::vector<std::vector<double>> u, v;
  std::vector<double> values;

  Decomposition(int64_t rows, int64_t columns)
      : u(orthonormal(rows, std::min(rows, columns), 1)),
        v(orthonormal(columns, std::min(rows, columns), 2)) {
    for (size_t k = 0; k < u.size(); ++k) values.push_back(std::pow(0.8, static_cast<double>(k)));
  }
  Tensor matrix(Device device) const {
    std::vector<float> x;
    for (size_t i = 0; i < u[0].size(); ++i)
      for (size_t j = 0; j < v[0].size(); ++j) {
        double sum = 0;
        for (size_t k = 0; k < u.size(); ++k) sum += u[k][i] * values[k] * v[k][j];
        x.push_back(static_cast<float>(sum));
      }
    return Tensor::from(x, {std::ssize(u[0]), std::ssize(v[0])}).to(device);
  }
  // u_a^T x v_b.
  double between(const std::vector<float>& x, size_t a, size_t b) const {
    double sum = 0;
    for (size_t i = 0; i < u[0].size(); ++i)
      for (size_t j = 0; j < v[0].size(); ++j)
        sum += u[a][i] * static_cast<double>(x[i * v[0].size() + j]) * v[b][j];
    return sum;
  }
};

TEST(Orthogonalise, KeepsSingularVectorsAndLevelsSingularValues) {
  const int64_t shapes[][2] = {{6, 6}, {5, 17}, {17, 5}, {16, 1}, {1, 16}, {1, 1}};
  for (const Device device : {Device::cpu, Device::cuda}) {
    if (!available(device)) continue;
    for (const auto& [rows, columns] : shapes) {
      const Decomposition d(rows, columns);
      const auto o = orthogonalise(d.matrix(device)).to_vector<float>();
      for (size_t a = 0; a < d.u.size(); ++a)
        for (size_t b = 0; b < d.u.size(); ++b) {
          const double value = d.between(o, a, b);
          if (a == b) {
            EXPECT_GT(value, 0.65) << rows << " x " << columns << ", value " << a;
            EXPECT_LT(value, 1.25) << rows << " x " << columns << ", value " << a;
          } else {
            EXPECT_NEAR(value, 0, 1e-4) << rows << " x " << columns;
          }
        }
    }
  }
}

TEST(Orthogonalise, DoesNotSeeTheScale) {
  const Tensor x = random_matrix(7, 4, 3, {.dtype = DType::f64});
  const auto small = orthogonalise(ops::affine(x, 1e-6)).to_vector<double>();
  const auto large = orthogonalise(ops::affine(x, 1e6)).to_vector<double>();
  for (size_t i = 0; i < small.size(); ++i) EXPECT_NEAR(small[i], large[i], 1e-4);
  for (const float v : orthogonalise(Tensor::zeros({3, 2})).to_vector<float>()) EXPECT_EQ(v, 0);
  EXPECT_THROW(orthogonalise(Tensor::zeros({3})), ShapeError);
}

struct Net {
  Tensor weight, bias;
  NamedTensors parameters() const { return {{"weight", weight}, {"bias", bias}}; }
};

Net make_net(Device device = Device::cpu) {
  Net net{.weight = random_matrix(4, 3, 5).to(device), .bias = Tensor::full({4}, 2.0).to(device)};
  net.weight.set_requires_grad();
  net.bias.set_requires_grad();
  return net;
}

// One step towards |W - 1|^2 + |b - 1|^2 = 0.
void descend(auto& optimiser, const Net& net) {
  const auto cost = [](const Tensor& p) {
    return ops::sum(ops::square(ops::affine(p, 1.0, -1.0)));
  };
  backward(ops::add(cost(net.weight), cost(net.bias)));
  optimiser.step();
}

TEST(Muon, FirstStepByHand) {
  const Net net = make_net();
  const std::vector<float> before = net.weight.to_vector<float>();
  Muon optimiser(net.parameters(), {"weight"}, {.learning_rate = 0.5, .weight_decay = 0.1}, 0.9);
  // Of the first momentum 0.1 g the direction is g + 0.9 (0.1 g - g) = 0.19 g; its size is not
  // seen.
  const Tensor gradient = ops::affine(ops::affine(net.weight, 1.0, -1.0), 2.0);
  const auto o = orthogonalise(gradient.detach()).to_vector<float>();
  descend(optimiser, net);
  const std::vector<float> after = net.weight.to_vector<float>();
  const float size = 0.5f * 0.2f * std::sqrt(4.f);
  for (size_t i = 0; i < after.size(); ++i)
    EXPECT_NEAR(after[i], before[i] - size * o[i] - 0.5f * 0.1f * before[i], 1e-5f);
  const std::vector<float> g = gradient.to_vector<float>();
  const auto momentum = optimiser.state().at("optim.first.weight").to_vector<float>();
  for (size_t i = 0; i < g.size(); ++i) EXPECT_NEAR(momentum[i], 0.1f * g[i], 1e-6f);
  for (const float b : net.bias.to_vector<float>()) EXPECT_NEAR(b, 2 - 0.5f * (1 + 0.2f), 1e-5f);
  EXPECT_FALSE(net.weight.grad().defined());
}

TEST(Muon, FindsAMinimum) {
  for (const Device device : {Device::cpu, Device::cuda}) {
    if (!available(device)) continue;
    const Net net = make_net(device);
    Muon optimiser(net.parameters(), {"weight"},
                   {.learning_rate = 0.1, .weight_decay = 0, .clip_norm = 1.0});
    constexpr int kSteps = 100;
    for (int step = 0; step < kSteps; ++step) {
      optimiser.set_learning_rate(0.2 * (1 - 1.0 * step / kSteps));
      descend(optimiser, net);
    }
    for (const float w : net.weight.to_vector<float>()) EXPECT_NEAR(w, 1, 2e-2) << name(device);
    for (const float b : net.bias.to_vector<float>()) EXPECT_NEAR(b, 1, 2e-2) << name(device);
    EXPECT_EQ(optimiser.steps(), kSteps);
  }
}

TEST(Muon, WithoutMatricesIsAdamW) {
  const AdamWOptions options{.learning_rate = 0.1, .clip_norm = 0.5, .average_decay = 0.9};
  const Net a = make_net(), b = make_net();
  Muon muon(a.parameters(), {}, options);
  AdamW adamw(b.parameters(), options);
  for (int step = 0; step < 3; ++step) {
    descend(muon, a);
    descend(adamw, b);
  }
  expect_same_bits(a.weight, b.weight, "weight");
  expect_same_bits(muon.averages().at("bias"), adamw.averages().at("bias"), "average");
  EXPECT_EQ(muon.gradient_norm().item(), adamw.gradient_norm().item());
}

TEST(Muon, ClipsByTheNormOfAllGradients) {
  const Net net = make_net();
  Muon optimiser(net.parameters(), {"weight"}, {.clip_norm = 1.0});
  backward(ops::add(ops::sum(ops::affine(net.weight, 3.0)), ops::sum(ops::affine(net.bias, 4.0))));
  optimiser.step();
  EXPECT_NEAR(optimiser.gradient_norm().item(), std::sqrt(12 * 9.0 + 4 * 16.0), 1e-4);
  const double scale = 1 / std::sqrt(12 * 9.0 + 4 * 16.0);
  const NamedTensors state = optimiser.state();
  EXPECT_NEAR(state.at("optim.first.weight").to_vector<float>()[0], 0.05 * 3 * scale, 1e-6);
  EXPECT_NEAR(state.at("optim.first.bias").to_vector<float>()[0], 0.1 * 4 * scale, 1e-6);
}

TEST(Muon, ResumesFromItsStateBitForBit) {
  const AdamWOptions options{.learning_rate = 0.05, .clip_norm = 1.0, .average_decay = 0.9};
  const Net straight = make_net(), resumed = make_net();
  Muon a(straight.parameters(), {"weight"}, options), b(resumed.parameters(), {"weight"}, options);
  for (int step = 0; step < 3; ++step) descend(a, straight);
  NamedTensors saved;
  for (const auto& [name, t] : a.state()) saved[name] = t.clone();
  EXPECT_EQ(saved.count("optim.second.weight"), 0u);
  b.load_state(saved);
  assign_tensors(resumed.parameters(), straight.parameters());
  for (int step = 0; step < 3; ++step) {
    descend(a, straight);
    descend(b, resumed);
  }
  expect_same_bits(resumed.weight, straight.weight, "weight");
  expect_same_bits(b.averages().at("weight"), a.averages().at("weight"), "average");
  EXPECT_EQ(b.steps(), 6);
  saved.erase("optim.first.weight");
  EXPECT_THROW(b.load_state(saved), FormatError);
}

TEST(Muon, AveragesMatrices) {
  const Net net = make_net();
  const std::vector<float> before = net.weight.to_vector<float>();
  Muon optimiser(net.parameters(), {"weight"}, {.learning_rate = 1, .average_decay = 0.9});
  descend(optimiser, net);  // with decay min(0.9, 1 / 10)
  const std::vector<float> own = net.weight.to_vector<float>();
  {
    const optim::AveragedParameters averaged(optimiser);
    const std::vector<float> mean = net.weight.to_vector<float>();
    for (size_t i = 0; i < own.size(); ++i)
      EXPECT_NEAR(mean[i], 0.1f * before[i] + 0.9f * own[i], 1e-6f);
  }
  EXPECT_EQ(net.weight.to_vector<float>(), own);
}

TEST(Muon, LeavesAMatrixWithoutGradientAlone) {
  const Net net = make_net();
  const std::vector<float> before = net.weight.to_vector<float>();
  Muon optimiser(net.parameters(), {"weight"}, {.clip_norm = 1.0});
  backward(ops::sum(net.bias));
  optimiser.step();
  EXPECT_EQ(net.weight.to_vector<float>(), before);
}

TEST(Muon, RefusesWhatItCannotTrain) {
  const Net net = make_net();
  const auto make = [&](const std::vector<std::string>& matrices, double momentum = 0.95) {
    Muon(net.parameters(), matrices, {}, momentum);
  };
  EXPECT_NO_THROW(make({"weight"}));
  EXPECT_THROW(make({"bias"}), OptionError);
  EXPECT_THROW(make({"weight", "weight"}), OptionError);
  EXPECT_THROW(make({"nothing"}), OptionError);
  EXPECT_THROW(make({"weight", "bias"}), OptionError);  // none is left
  EXPECT_THROW(make({"weight"}, 1.0), OptionError);
  EXPECT_THROW(Muon(net.parameters(), {}, {.clip_norm = 0.0}), OptionError);
}

}  // namespace
}  // namespace stillpoint::test
