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
using implicit::Residual;
using implicit::Solver;
using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::ThrowsMessage;

const std::vector<std::pair<std::string, Solver>> kSolvers = {
    {"damped", Damped{}},
    {"half_damped", Damped{.step = 0.5}},
    {"anderson", Anderson{}},
    {"anderson_mixed", Anderson{.memory = 3, .mixing = 0.7}},
    {"broyden", Broyden{}}};

Tensor f64(std::vector<double> values, Shape shape) { return Tensor::from(values, shape); }

TEST(FixedPoint, EverySolverFindsIt) {
  const ReluEquilibrium net(12);
  const Tensor x = random_tensor({5, 12}, 3), z0 = Tensor::zeros({5, 12}, {DType::f64});
  for (const auto& [name, solver] : kSolvers) {
    const auto [z, report] = fixed_point(net, z0, x, tight(solver));
    EXPECT_LT(relative_error(net(z, x), z), 2e-12) << name;
    EXPECT_EQ(report->forward.unconverged(), 0) << name;
    for (const auto& sample : report->forward.samples) {
      EXPECT_LE(sample.residual, 1e-12) << name;
      EXPECT_EQ(sample.residual, sample.trace.back()) << name;
    }
  }
}

// Rates from -0.9 to 0.95.
TEST(FixedPoint, AccelerationAccelerates) {
  std::vector<double> rates;
  for (int k = 0; k < 38; ++k) rates.push_back(-0.9 + 0.05 * k);
  const Tensor rate = f64(rates, {38}), x = random_tensor({4, 38}, 3);
  const auto rows = [&](const Solver& solver) {
    const auto [z, report] = fixed_point(
        [&](const Tensor& v, const Tensor& in) { return ops::add(ops::mul(v, rate), in); },
        Tensor::zeros({4, 38}, {DType::f64}), x,
        {.solver = solver, .forward = {.tolerance = 1e-8, .max_iterations = 1000}});
    EXPECT_EQ(report->forward.unconverged(), 0);
    return report->forward.rows_evaluated;
  };
  const int64_t damped = rows(Damped{});
  EXPECT_LT(2 * rows(Anderson{}), damped);
  EXPECT_LT(2 * rows(Broyden{}), damped);
}

TEST(FixedPoint, SingleAndEmulatedPrecisionFindIt) {
  const ReluEquilibrium net(33);
  const Tensor x = random_tensor({5, 33}, 3), z0 = Tensor::zeros({5, 33}, {DType::f64});
  const Tensor wanted = fixed_point(net, z0, x, tight()).z;
  for (const Device device : {Device::cpu, Device::cuda}) {
    if (!available(device)) continue;
    const ReluEquilibrium copy = net.to(DType::f32, device);
    for (const auto& [name, solver] : kSolvers)
      for (const int look_every : {1, 4}) {
        const auto [z, report] = fixed_point(
            copy, z0.to(DType::f32).to(device), x.to(DType::f32).to(device),
            {.solver = solver, .forward = {.tolerance = 1e-6, .look_every = look_every}});
        EXPECT_EQ(z.device(), device);
        EXPECT_EQ(report->forward.unconverged(), 0) << name;
        EXPECT_LT(relative_error(z, wanted), 1e-5) << name;
      }
  }
}

// z = a z + 1 with a of its own for every sample: each takes as long as it needs, f sees no sample
// after it is done, and its row of the input leaves with it.
TEST(FixedPoint, SamplesLeaveWithTheirInputs) {
  const Tensor a = f64({0.9, 0.0, 0.5, 0.99, 0.1}, {5, 1});
  const Tensor id = Tensor::from<int32_t>({0, 1, 2, 3, 4}, {5});
  Calls calls;
  const implicit::Map f = [&](const Tensor& z, std::span<const Tensor> in) {
    calls.rows.push_back(z.dim(0));
    EXPECT_EQ(in[0].dim(0), z.dim(0));
    for (int64_t r = 0; r < z.dim(0); ++r) {
      const int32_t sample = in[1].to_vector<int32_t>()[static_cast<size_t>(r)];
      EXPECT_EQ(in[0].to_vector<double>()[static_cast<size_t>(r)],
                a.to_vector<double>()[static_cast<size_t>(sample)]);
    }
    return ops::affine(ops::mul(in[0], z), 1.0, 1.0);
  };
  const NoGrad quiet;
  const auto [z, report] =
      fixed_point(f, Tensor::zeros({5, 1}, {DType::f64}), {a, id},
                  {.solver = Damped{}, .forward = {.tolerance = 1e-3, .max_iterations = 1000}});
  int64_t iterations = 0;
  int longest = 0;
  std::vector<int> counts;
  for (const auto& sample : report->forward.samples) {
    EXPECT_TRUE(sample.converged());
    counts.push_back(sample.iterations());
    iterations += sample.iterations();
    longest = std::max(longest, sample.iterations());
  }
  // z_k = (1 - a^k) / (1 - a): the residual a^k (1 - a) / (1 - a^(k+1)) after k + 1 evaluations.
  const auto expected = [](double rate) {
    int k = 0;
    while (std::pow(rate, k) * (1 - rate) / (1 - std::pow(rate, k + 1)) > 1e-3) ++k;
    return k + 1;
  };
  EXPECT_THAT(counts, ElementsAre(expected(0.9), 2, expected(0.5), expected(0.99), expected(0.1)));
  EXPECT_EQ(calls.total(), iterations);
  EXPECT_EQ(report->forward.rows_evaluated, iterations);
  EXPECT_EQ(report->forward.evaluations, longest);
  EXPECT_EQ(static_cast<int>(calls.rows.size()), longest);
}

// Looking seldom costs evaluations and changes nothing else. (f is elementwise here: a product's
// last bits may depend on how many rows it has.)
TEST(FixedPoint, LookingSeldomGivesTheSameBits) {
  const Tensor rate = random_tensor({6, 12}, 4).to(DType::f32);
  const Tensor x = random_tensor({6, 12}, 3).to(DType::f32);
  for (const auto& [name, solver] : kSolvers) {
    const auto run = [&, s = solver](int look_every) {
      return fixed_point(
          [](const Tensor& v, std::span<const Tensor> in) {
            return ops::tanh(ops::add(ops::mul(v, in[0]), in[1]));
          },
          Tensor::zeros({6, 12}), {rate, x},
          {.solver = s,
           .forward = {.tolerance = 1e-4, .max_iterations = 50, .look_every = look_every}});
    };
    const auto often = run(1), seldom = run(7);
    expect_same_bits(seldom.z, often.z, name);
    for (size_t k = 0; k < 6; ++k)
      EXPECT_EQ(seldom.report->forward.samples[k].trace, often.report->forward.samples[k].trace);
    EXPECT_GT(seldom.report->forward.rows_evaluated, often.report->forward.rows_evaluated);
  }
}

TEST(FixedPoint, WarmStartEndsAtOnce) {
  const ReluEquilibrium net(8);
  const Tensor x = random_tensor({3, 8}, 3);
  const Tensor z = fixed_point(net, Tensor::zeros({3, 8}, {DType::f64}), x, tight()).z;
  const auto again = fixed_point(net, z.detach(), x, {.forward = {.tolerance = 1e-8}});
  for (const auto& sample : again.report->forward.samples) EXPECT_EQ(sample.iterations(), 1);
  EXPECT_EQ(again.z.to_vector<double>(), z.to_vector<double>());
}

TEST(FixedPoint, ResidualsAreWhatTheyAreCalled) {
  const auto f = [](const Tensor& z) { return ops::affine(z, 0.5, 1.0); };
  const auto first = [&](Residual residual) {
    return fixed_point(f, f64({4}, {1, 1}), {.forward = {.residual = residual}})
        .report->forward.samples[0]
        .trace[0];
  };
  EXPECT_DOUBLE_EQ(first(Residual::absolute), 1);          // |3 - 4|
  EXPECT_DOUBLE_EQ(first(Residual::relative), 1.0 / 3.0);  // over |3|
}

// A map that wanders: the best iterate comes back, not the last.
TEST(FixedPoint, KeepsTheBestIterate) {
  int call = 0;
  const std::vector<double> images = {5, 1.1, 7, 3};  // of 0, 5, 1.1, 7: residuals 5, 3.9, 5.9, 4
  const NoGrad quiet;
  const auto [z, report] = fixed_point(
      [&](const Tensor&) {
        return f64({images[static_cast<size_t>(call++)]}, {1, 1});
      },
      f64({0}, {1, 1}),
      {.solver = Damped{}, .forward = {.max_iterations = 4, .residual = Residual::absolute}});
  EXPECT_EQ(z.item(), 5);
  EXPECT_DOUBLE_EQ(report->forward.samples[0].residual, 3.9);
  EXPECT_EQ(report->forward.samples[0].reason, Reason::iteration_cap);
  EXPECT_EQ(report->forward.samples[0].iterations(), 4);
}

// ---- what goes wrong ---------------------------------------------------------------------------

TEST(FixedPoint, DivergenceIsReportedAndLeavesOthersAlone) {
  const Tensor a = f64({0.5, 3.0, 1e200}, {3, 1});
  for (const auto& [name, solver] : kSolvers) {
    if (std::holds_alternative<Broyden>(solver)) continue;  // solves this one
    if (std::holds_alternative<Anderson>(solver)) continue;
    const auto [z, report] = fixed_point(
        [](const Tensor& v, const Tensor& rate) { return ops::affine(ops::mul(rate, v), 1, 1); },
        Tensor::full({3, 1}, 0.25, {DType::f64}), a,
        {.solver = solver, .forward = {.tolerance = 1e-10, .max_iterations = 100}});
    const auto& samples = report->forward.samples;
    EXPECT_TRUE(samples[0].converged()) << name;
    EXPECT_EQ(samples[1].reason, Reason::iteration_cap) << name;
    EXPECT_EQ(samples[2].reason, Reason::non_finite) << name;
    EXPECT_LT(samples[2].iterations(), 10) << name;
    EXPECT_NEAR(z.to_vector<double>()[0], 2, 1e-9) << name;
    for (const double x : z.to_vector<double>()) EXPECT_TRUE(std::isfinite(x)) << name;
    EXPECT_EQ(report->forward.unconverged(), 2) << name;
  }
}

// Without a fixed point no solver may loop, crash or say that it found one.
TEST(FixedPoint, MapsWithoutAFixedPointAreReported) {
  for (const Device device : {Device::cpu, Device::cuda}) {
    if (!available(device)) continue;
    for (const auto& [name, solver] : kSolvers) {
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
    for (const auto& [name, solver] : kSolvers) {
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

TEST(FixedPoint, EmptyBatchAndEmptySamples) {
  const ReluEquilibrium net(4);
  const Tensor none = Tensor::zeros({0, 4}, {DType::f64});
  for (const auto& [name, solver] : kSolvers) {
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
  for (const auto& [name, solver] : kSolvers) {
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
  refuses({.adjoint = implicit::Exact{.solver = implicit::Gmres{.restart = 0}}}, "restart is 0");
  refuses({.adjoint = implicit::Exact{.stopping = {.max_iterations = 0}}},
          "adjoint: max_iterations is 0");
  refuses({.adjoint = implicit::PhantomGradient{.steps = 0}}, "phantom gradient of 0 steps");
  refuses({.adjoint = implicit::PhantomGradient{.damping = 1.5}}, "phantom damping is 1.5");
  refuses({.adjoint = implicit::Neumann{.terms = 0}}, "Neumann series of 0 terms");
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
