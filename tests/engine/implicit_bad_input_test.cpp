// What has no fixed point, or is not to be had, is reported or refused: never a crash, never a
// claim.
#include <gmock/gmock.h>

#include <cmath>
#include <limits>

#include "tests/support/equilibrium.h"
#include "tests/support/op_test.h"

namespace stillpoint::test {
namespace {

using implicit::Anderson;
using implicit::Broyden;
using implicit::Damped;
using implicit::fixed_point;
using implicit::FixedPointOptions;
using implicit::Reason;
using testing::Each;
using testing::HasSubstr;
using testing::ThrowsMessage;

TEST(FixedPoint, DivergenceIsReportedAndLeavesOthersAlone) {
  const Tensor a = f64({0.5, 3.0, 1e200}, {3, 1});
  for (const double step : {1.0, 0.5}) {  // the other solvers find the repelling points
    const auto [z, report] = fixed_point(
        [](const Tensor& v, const Tensor& rate) { return ops::affine(ops::mul(rate, v), 1, 1); },
        Tensor::full({3, 1}, 0.25, {DType::f64}), a,
        {.solver = Damped{.step = step}, .forward = {.tolerance = 1e-10, .max_iterations = 100}});
    const auto& samples = report->forward.samples;
    EXPECT_TRUE(samples[0].converged()) << step;
    EXPECT_EQ(samples[1].reason, Reason::iteration_cap) << step;
    EXPECT_EQ(samples[2].reason, Reason::non_finite) << step;
    EXPECT_LT(samples[2].iterations(), 10) << step;
    EXPECT_NEAR(z.to_vector<double>()[0], 2, 1e-9) << step;
    for (const double x : z.to_vector<double>()) EXPECT_TRUE(std::isfinite(x)) << step;
    EXPECT_EQ(report->forward.unconverged(), 2) << step;
  }
}

// Without a fixed point no solver may loop, crash or say that it found one.
TEST(FixedPoint, MapsWithoutAFixedPointAreReported) {
  for (const Device device : {Device::cpu, Device::cuda}) {
    if (!available(device)) continue;
    for (const auto& [name, solver] : kEverySolver) {
      const auto [z, report] =
          fixed_point([](const Tensor& v) { return ops::affine(ops::square(v), 1.0, 1.0); },
                      Tensor::full({2, 3}, 0.1, {.device = device}),
                      {.solver = solver, .forward = {.tolerance = 1e-5, .max_iterations = 40}});
      EXPECT_EQ(report->forward.unconverged(), 2) << name;
      for (const float x : z.to_vector<float>()) EXPECT_TRUE(std::isfinite(x)) << name;
    }
  }
}

TEST(FixedPoint, NanStopsItsSampleOnly) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (const Device device : {Device::cpu, Device::cuda}) {
    if (!available(device)) continue;
    const Tensor x = f64({1, nan, 2}, {3, 1}).to(DType::f32).to(device);
    for (const auto& [name, solver] : kEverySolver) {
      const auto [z, report] = fixed_point(
          [](const Tensor& v, const Tensor& in) { return ops::add(ops::affine(v, 0.5), in); },
          Tensor::full({3, 1}, 0.25, {.device = device}), x,
          {.solver = solver, .forward = {.tolerance = 1e-5}});
      const auto& samples = report->forward.samples;
      EXPECT_TRUE(samples[0].converged() && samples[2].converged()) << name;
      EXPECT_EQ(samples[1].reason, Reason::non_finite) << name;
      EXPECT_EQ(samples[1].iterations(), 1) << name;
      EXPECT_TRUE(std::isnan(samples[1].trace[0])) << name;
      const std::vector<float> v = z.to_vector<float>();
      EXPECT_NEAR(v[0], 2, 1e-4) << name;
      EXPECT_EQ(v[1], 0.25f) << name;  // the start: nothing better is known
      EXPECT_NEAR(v[2], 4, 1e-4) << name;
    }
  }
}

// A relative residual divides by |f(z)|: infinite for an image of 0, which is no failure.
TEST(FixedPoint, ImagesOfZeroAreOnTheWay) {
  const NoGrad no_grad;
  const auto f = [](const Tensor& z) { return ops::relu(ops::affine(z, 1.0, -1.0)); };
  for (const Device device : {Device::cpu, Device::cuda}) {
    if (!available(device)) continue;
    for (const auto& [name, solver] : kEverySolver) {
      const auto [z, report] =
          fixed_point(f, Tensor::full({1, 2}, 0.5, {.device = device}), {.solver = solver});
      const implicit::SampleReport& sample = report->forward.samples[0];
      EXPECT_EQ(sample.trace[0], std::numeric_limits<double>::infinity()) << name;
      EXPECT_NE(sample.reason, Reason::non_finite) << name;
      EXPECT_EQ(report->left_out, 0) << name;
      if (name == "damped" || name == "anderson" || name == "broyden") {
        EXPECT_TRUE(sample.converged()) << name;
        EXPECT_THAT(z.to_vector<float>(), Each(0.f)) << name;
      }
    }
  }
}

TEST(FixedPoint, EmptyBatchAndEmptySamples) {
  const ReluEquilibrium net(4);
  const Tensor none = Tensor::zeros({0, 4}, {DType::f64});
  for (const auto& [name, solver] : kEverySolver) {
    const auto [z, report] = fixed_point(net, none, none, tight(solver));
    EXPECT_EQ(z.shape(), (Shape{0, 4})) << name;
    EXPECT_TRUE(report->forward.samples.empty()) << name;
    EXPECT_EQ(report->forward.rows_evaluated, 0) << name;
    backward(ops::sum(z));  // parameters get their zeros
    EXPECT_THAT(net.w.grad().to_vector<double>(), Each(0.0)) << name;

    const auto thin = fixed_point([](const Tensor& v) { return ops::affine(v, 0.5); },
                                  Tensor::zeros({3, 0}), {.solver = solver});
    EXPECT_EQ(thin.report->forward.unconverged(), 0) << name;
  }
}

// The fixed point itself as a start, and maps that do not depend on z: histories of zeros.
TEST(FixedPoint, HistoriesWithoutInformation) {
  const NoGrad no_grad;  // any iterate's image would be right
  for (const auto& [name, solver] : kEverySolver) {
    FixedPointOptions options{.solver = solver, .forward = {.tolerance = 0, .max_iterations = 200}};
    if (auto* anderson = std::get_if<Anderson>(&options.solver)) anderson->ridge = 0;
    const auto constant = fixed_point([](const Tensor& z) { return ops::affine(z, 0.0, 3.0); },
                                      Tensor::zeros({2, 2}), options);
    EXPECT_THAT(constant.z.to_vector<float>(), Each(3.f)) << name;
    EXPECT_EQ(constant.report->forward.unconverged(), 0) << name;
    const auto at_rest = fixed_point([](const Tensor& z) { return ops::affine(z, 0.0, 0.0); },
                                     Tensor::zeros({2, 2}), options);
    EXPECT_EQ(at_rest.report->forward.samples[0].iterations(), 1) << name;
  }
}

TEST(FixedPoint, ToleranceBelowPrecisionIsReported) {
  const ReluEquilibrium net = ReluEquilibrium(12).to(DType::f32, Device::cpu);
  const Tensor x = random_tensor({4, 12}, 3).to(DType::f32), z0 = Tensor::zeros({4, 12});
  // (With more iterations some come to rest at a residual of exactly 0.)
  const auto result =
      fixed_point(net, z0, x, {.forward = {.tolerance = 1e-12, .max_iterations = 14}});
  int below = 0;
  for (const auto& sample : result.report->forward.samples) {
    EXPECT_NE(sample.reason, Reason::iteration_cap);
    EXPECT_EQ(sample.converged(), sample.residual <= 1e-12);
    below += sample.reason == Reason::below_precision ? 1 : 0;
  }
  EXPECT_GT(below, 0);
  // Far from the solution the cap is the reason, whatever the tolerance.
  const auto early =
      fixed_point(net, z0, x, {.forward = {.tolerance = 1e-12, .max_iterations = 3}});
  EXPECT_EQ(early.report->forward.samples[0].reason, Reason::iteration_cap);
}

TEST(FixedPoint, RefusesContradictoryOptions) {
  const Tensor z0 = Tensor::zeros({1, 1});
  const auto with = [&](const FixedPointOptions& options) {
    return [&z0, options] { fixed_point([](const Tensor& z) { return Tensor(z); }, z0, options); };
  };
  const auto refuses = [&](const FixedPointOptions& options, const std::string& message) {
    EXPECT_THAT(with(options), ThrowsMessage<OptionError>(HasSubstr(message)));
  };
  const double nan = std::numeric_limits<double>::quiet_NaN();
  refuses({.solver = Damped{.step = 0}}, "forward: damped step is 0");
  refuses({.solver = Anderson{.memory = 0}}, "Anderson memory is 0, wanted 1 to 32");
  refuses({.solver = Anderson{.memory = 33}}, "Anderson memory is 33");
  refuses({.solver = Anderson{.mixing = 0}}, "mixing is 0");
  refuses({.solver = Anderson{.ridge = -1}}, "ridge is -1");
  refuses({.solver = Broyden{.memory = 1}}, "Broyden memory is 1");
  refuses({.forward = {.tolerance = -1}}, "tolerance is -1");
  refuses({.forward = {.tolerance = nan}}, "tolerance is nan");
  refuses({.forward = {.tolerance = 1}}, "a relative tolerance of 1 is met by anything");
  refuses({.forward = {.max_iterations = 0}}, "max_iterations is 0");
  refuses({.forward = {.max_iterations = 4, .look_every = 5}}, "look_every is 5");
  refuses({.forward = {.at_a_time = -1}}, "at_a_time is -1");
  refuses({.adjoint = implicit::Exact{.solver = implicit::Gmres{.restart = 0}}}, "restart is 0");
  refuses({.adjoint = implicit::Exact{.stopping = {.max_iterations = 0}}},
          "adjoint: max_iterations is 0");
  refuses({.adjoint = implicit::PhantomGradient{.steps = 0}}, "phantom gradient of 0 steps");
  refuses({.adjoint = implicit::PhantomGradient{.damping = 1.5}}, "phantom damping is 1.5");
  refuses({.adjoint = implicit::Neumann{.terms = 0}}, "Neumann series of 0 terms");
  refuses({.adjoint = implicit::UnrolledPhantomGradient{.steps = 0}}, "0 steps unrolled");
  refuses({.adjoint = implicit::UnrolledPhantomGradient{.damping = 0}},
          "damping of unrolled steps is 0");
  refuses({.adjoint = implicit::UnrolledPhantomGradient{}, .output = implicit::Output::iterate},
          "Output::iterate with unrolled steps");
}

TEST(FixedPoint, RefusesInputsThatDoNotFit) {
  const auto id = [](const Tensor& z, const Tensor&) { return Tensor(z); };
  const Tensor z0 = Tensor::zeros({2, 3});
  EXPECT_THROW(fixed_point(id, Tensor::zeros({}), z0), ShapeError);
  EXPECT_THROW(fixed_point(id, Tensor::from<int32_t>({1}, {1}), z0), TypeError);
  EXPECT_THAT(
      [&] {
        fixed_point(id, z0, Tensor::zeros({3, 3}));
      },
      ThrowsMessage<ShapeError>(HasSubstr("input 0 has shape [3, 3], wanted 2 rows")));
  EXPECT_THAT(
      [&] {
        fixed_point([](const Tensor&) { return Tensor::zeros({2, 4}); }, z0);
      },
      ThrowsMessage<ShapeError>(HasSubstr("f(z)")));
  EXPECT_THROW(fixed_point(
                   [](const Tensor&) {
                     return Tensor::zeros({2, 3}, {DType::f64});
                   },
                   z0),
               TypeError);
  if (!available(Device::cuda)) return;
  EXPECT_THROW(fixed_point(id, z0, z0.to(Device::cuda)), TypeError);
}

}  // namespace
}  // namespace stillpoint::test
