#include "kernels/broyden_update/broyden_update.h"

#include <gmock/gmock.h>

#include <cmath>

#include "engine/implicit/solver_state.h"
#include "engine/memory.h"
#include "engine/ops.h"
#include "tests/support/op_test.h"

namespace stillpoint::test {
namespace {

using testing::ElementsAre;

// x holds the start and one vector per step: f(z) = x_k + z / 2, which keeps iterates bounded.
Tensor run(std::span<const Tensor> x, int memory) {
  const implicit::Active all = implicit::all_of(x[0].dim(0), x[0].device());
  const Tensor running = Tensor::zeros({x[0].dim(0)}, {DType::i32, x[0].device()});
  implicit::BroydenStepper stepper({.memory = memory}, x[0]);
  std::vector<Tensor> steps = {x[0]};
  for (size_t k = 1; k < x.size(); ++k) {
    const Tensor& z = x[k - 1];
    steps.push_back(stepper.step(z, ops::add(x[k], ops::affine(z, 0.5)), all, running));
  }
  return ops::concat(steps);
}

OpCase make_case(const std::string& name, Shape shape, int steps, int memory) {
  OpCase c{.name = name,
           .inputs = {},
           .op = [=](std::span<const Tensor> x) { return run(x, memory); },
           .derivatives = Derivatives::none,
           .terms = 64.0 * memory};
  for (int k = 0; k <= steps; ++k)
    c.inputs.push_back(random_tensor(shape, static_cast<uint64_t>(k) + 1));
  return c;
}

TEST(BroydenUpdate, AwkwardSizes) {
  std::vector<OpCase> cases;
  for (const int64_t n : kAwkwardSizes) {
    // (One random number may well give a denominator of nearly 0, which amplifies rounding.)
    if (n != 1) cases.push_back(make_case("elements_" + std::to_string(n), {3, n}, 3, 4));
    cases.push_back(make_case("samples_" + std::to_string(n), {n, 40}, 3, 8));
  }
  cases.push_back(make_case("starts_again", {2, 3, 50}, 7, 3));
  cases.push_back(make_case("several_chunks", {9, 2000}, 4, 4));
  check_op("broyden_update", cases);
}

// In one dimension Broyden's method is the secant method: exact on an affine map after two steps.
TEST(BroydenUpdate, IsTheSecantMethodInOneDimension) {
  for (const double slope : {0.9, -3.0, 40.0}) {
    implicit::BroydenStepper stepper({}, Tensor::zeros({1, 1}, {DType::f64}));
    const implicit::Active all = implicit::all_of(1, Device::cpu);
    const Tensor running = Tensor::zeros({1}, {DType::i32});
    Tensor z = Tensor::zeros({1, 1}, {DType::f64});
    for (int k = 0; k < 2; ++k) z = stepper.step(z, ops::affine(z, slope, 1.0), all, running);
    EXPECT_NEAR(z.item(), 1 / (1 - slope), 1e-12) << slope;
  }
}

// f(z) = z + 1 has no fixed point: every update's denominator is 0.
TEST(BroydenUpdate, StartsAgainWhereTheUpdateIsSingular) {
  for (const Device device : {Device::cpu, Device::cuda}) {
    if (!available(device)) continue;
    implicit::BroydenStepper stepper({}, Tensor::zeros({1, 1}, {.device = device}));
    const implicit::Active all = implicit::all_of(1, device);
    const Tensor running = Tensor::zeros({1}, {DType::i32, device});
    Tensor z = Tensor::zeros({1, 1}, {.device = device});
    for (int k = 1; k <= 5; ++k) {
      z = stepper.step(z, ops::affine(z, 1.0, 1.0), all, running);
      EXPECT_THAT(z.to_vector<float>(), ElementsAre(static_cast<float>(k)));
    }
  }
}

TEST(BroydenUpdate, DoneSamplesStay) {
  for (const Device device : {Device::cpu, Device::cuda}) {
    if (!available(device)) continue;
    const Tensor z = Tensor::from<float>({1, 2}, {2, 1}).to(device);
    const Tensor fz = Tensor::from<float>({3, 4}, {2, 1}).to(device);
    implicit::BroydenStepper stepper({}, z);
    const Tensor status = Tensor::from<int32_t>({1, 0}, {2}).to(device);
    const Tensor next = stepper.step(z, fz, implicit::all_of(2, device), status);
    EXPECT_THAT(next.to_vector<float>(), ElementsAre(1, 4));
  }
}

// However many steps are made, no memory is taken beyond the first's.
TEST(BroydenUpdate, MemoryIsBounded) {
  const Tensor z = Tensor::full({2, 1000}, 1.0), fz = random_tensor({2, 1000}, 1).to(DType::f32);
  const implicit::Active all = implicit::all_of(2, Device::cpu);
  const Tensor running = Tensor::zeros({2}, {DType::i32});
  implicit::BroydenStepper stepper({.memory = 4}, z);
  const auto peak_of = [&](int steps) {
    reset_peak_memory(Device::cpu);
    for (int k = 0; k < steps; ++k) stepper.step(z, fz, all, running);
    return memory_stats(Device::cpu).peak;
  };
  const int64_t first = peak_of(1);
  EXPECT_EQ(peak_of(50), first);
}

}  // namespace
}  // namespace stillpoint::test
