#include "kernels/anderson/anderson.h"

#include <gmock/gmock.h>

#include <cmath>

#include "engine/implicit/solver_state.h"
#include "engine/ops.h"
#include "kernels/anderson/anderson_solve.h"
#include "tests/support/equilibrium.h"
#include "tests/support/op_test.h"

namespace stillpoint::test {
namespace {

using implicit::Anderson;

// Steps with iterates that nothing ties together: x holds z and f(z) of each step in turn. Gives
// all that the steps gave.
Tensor run(std::span<const Tensor> x, const Anderson& options) {
  const implicit::Active all = implicit::all_of(x[0].dim(0), x[0].device());
  const Tensor running = Tensor::zeros({x[0].dim(0)}, {DType::i32, x[0].device()});
  implicit::AndersonStepper stepper(options, x[0]);
  std::vector<Tensor> steps;
  for (size_t k = 0; k + 1 < x.size(); k += 2)
    steps.push_back(stepper.step(x[k], x[k + 1], all, running));
  return ops::concat(steps);
}

OpCase make_case(const std::string& name, Shape shape, int steps, const Anderson& options) {
  OpCase c{.name = name,
           .inputs = {},
           .op = [=](std::span<const Tensor> x) { return run(x, options); },
           .derivatives = Derivatives::none,
           // Every difference adds to next, and the normal equations amplify: at random directions
           // by less than the ridge's inverse root would allow.
           .terms = 64.0 * options.memory};
  for (int k = 0; k < 2 * steps; ++k)
    c.inputs.push_back(random_tensor(shape, static_cast<uint64_t>(k) + 1));
  return c;
}

TEST(Anderson, AwkwardSizes) {
  std::vector<OpCase> cases;
  for (const int64_t n : kAwkwardSizes) {
    cases.push_back(
        make_case("elements_" + std::to_string(n), {3, n}, 5, {.memory = 3, .ridge = 1e-2}));
    cases.push_back(make_case("samples_" + std::to_string(n), {n, 40}, 3, {.memory = 2}));
  }
  cases.push_back(make_case("full_memory", {2, 300}, 36, {.memory = 32}));
  cases.push_back(make_case("mixing", {2, 3, 7}, 6, {.memory = 4, .mixing = 0.5}));
  cases.push_back(make_case("several_chunks", {9, 2000}, 4, {.memory = 3}));
  check_op("anderson", cases);
}

// As long as a sample is far from its fixed point its steps are damped and nothing is held.
TEST(Anderson, BeginsNearTheFixedPoint) {
  for (const auto& [dtype, device] :
       {std::pair{DType::f64, Device::cpu}, std::pair{DType::f32, Device::cpu},
        std::pair{DType::f32, Device::cuda}}) {
    if (!available(device)) continue;
    const implicit::Active all = implicit::all_of(2, device);
    const Tensor running = Tensor::zeros({2}, {DType::i32, device});
    const auto tensor = [dtype = dtype, device = device](double first, double second) {
      return f64({first, second}, {2, 1}).to(dtype).to(device);
    };
    // |g| / |fz| is 0.75, 0.2, 0.09 in the first row and 0.21, 0.07, 0.03 in the second.
    const Tensor z[] = {tensor(1, 11), tensor(4, 14), tensor(5, 15)};
    const Tensor fz[] = {tensor(4, 14), tensor(5, 15), tensor(5.5, 15.5)};
    const auto steps = [&](double begin) {
      implicit::AndersonStepper stepper({.memory = 1, .ridge = 0, .begin = begin}, z[0]);
      std::vector<double> next;
      for (int k = 0; k < 3; ++k) {
        const Tensor step = stepper.step(z[k], fz[k], all, running).to(Device::cpu).to(DType::f64);
        for (const double x : step.to_vector<double>()) next.push_back(x);
      }
      return next;
    };
    EXPECT_THAT(steps(0.01), testing::ElementsAre(4, 14, 5, 15, 5.5, 15.5));  // damped
    EXPECT_THAT(steps(0.1), testing::ElementsAre(4, 14, 5, 15.5, 6, 16));
    EXPECT_THAT(steps(0.9),
                testing::ElementsAre(4, 14, 5.5, 15.5, 6, 16));  // secant from the start
  }
}

// On an affine map in n dimensions, n + 1 differences hold its whole Jacobian: the step is exact.
TEST(Anderson, ExactOnAnAffineMap) {
  const auto f = [](double x, double y) {
    return std::pair{0.5 * x - 0.3 * y + 1, 0.4 * x + 0.2 * y - 1};
  };
  implicit::AndersonStepper stepper({.memory = 3, .ridge = 0}, Tensor::zeros({1, 2}, {DType::f64}));
  const implicit::Active all = implicit::all_of(1, Device::cpu);
  const Tensor running = Tensor::zeros({1}, {DType::i32});
  Tensor z = Tensor::zeros({1, 2}, {DType::f64});
  for (int k = 0; k < 3; ++k) {
    const auto v = z.to_vector<double>();
    const auto [x, y] = f(v[0], v[1]);
    z = stepper.step(z, Tensor::from<double>({x, y}, {1, 2}), all, running);
  }
  const auto v = z.to_vector<double>();
  const auto [x, y] = f(v[0], v[1]);
  EXPECT_NEAR(x, v[0], 1e-13);
  EXPECT_NEAR(y, v[1], 1e-13);
}

// A history that says nothing, or the same thing twice, leaves the damped step.
TEST(Anderson, SingularHistoriesGiveFiniteSteps) {
  for (const double ridge : {0.0, 1e-6})
    for (const Device device : {Device::cpu, Device::cuda}) {
      if (!available(device)) continue;
      const implicit::Active all = implicit::all_of(1, device);
      const Tensor running = Tensor::zeros({1}, {DType::i32, device});
      implicit::AndersonStepper stepper({.memory = 4, .ridge = ridge},
                                        Tensor::zeros({1, 3}, {.device = device}));
      const Tensor z = Tensor::from<float>({1, 2, 3}, {1, 3}).to(device);
      const Tensor fz = Tensor::from<float>({2, 2, 2}, {1, 3}).to(device);
      const Tensor other = Tensor::from<float>({4, 2, 2}, {1, 3}).to(device);
      Tensor next;
      for (int k = 0; k < 3; ++k) next = stepper.step(z, fz, all, running);  // does not move
      EXPECT_THAT(next.to_vector<float>(), testing::ElementsAre(2, 2, 2));
      for (int k = 0; k < 8; ++k) {  // parallel differences only
        next = stepper.step(z, k % 2 == 0 ? other : fz, all, running);
        for (const float x : next.to_vector<float>()) EXPECT_TRUE(std::isfinite(x)) << ridge;
      }
    }
}

TEST(Anderson, SolveDropsWhatIsDependent) {
  // The second column is the first one again; the third is empty.
  const double gram[9] = {4, 4, 0, 4, 4, 0, 0, 0, 0};
  double rhs[3] = {8, 8, 0};
  double scratch[kernels::anderson_scratch(3)];
  kernels::anderson_solve(gram, 3, 3, 0.0, rhs, scratch, 0, 1, [] {});
  EXPECT_THAT(rhs, testing::ElementsAre(2, 0, 0));
}

TEST(Anderson, DoneSamplesStay) {
  for (const Device device : {Device::cpu, Device::cuda}) {
    if (!available(device)) continue;
    const Tensor z = Tensor::from<float>({1, 2}, {2, 1}).to(device);
    const Tensor fz = Tensor::from<float>({3, 4}, {2, 1}).to(device);
    implicit::AndersonStepper stepper({}, z);
    const Tensor status = Tensor::from<int32_t>({1, 0}, {2}).to(device);
    const Tensor next = stepper.step(z, fz, implicit::all_of(2, device), status);
    EXPECT_THAT(next.to_vector<float>(), testing::ElementsAre(1, 4));
  }
}

}  // namespace
}  // namespace stillpoint::test
