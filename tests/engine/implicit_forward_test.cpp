// Every solver finds fixed points, of every sample on its own, and reports how.
#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>

#include "tests/support/equilibrium.h"
#include "tests/support/op_test.h"

namespace stillpoint::test {
namespace {

using implicit::Anderson;
using implicit::Broyden;
using implicit::Damped;
using implicit::fixed_point;
using implicit::Reason;
using implicit::Residual;
using implicit::Solver;
using testing::ElementsAre;

TEST(FixedPoint, EverySolverFindsIt) {
  const NoGrad no_grad;  // the iterate itself, not its image
  const ReluEquilibrium net(12);
  const Tensor x = random_tensor({5, 12}, 3), z0 = Tensor::zeros({5, 12}, {DType::f64});
  for (const auto& [name, solver] : kEverySolver) {
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
    for (const auto& [name, solver] : kEverySolver)
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
  const NoGrad no_grad;
  const Tensor rate = random_tensor({6, 12}, 4).to(DType::f32);
  const Tensor x = random_tensor({6, 12}, 3).to(DType::f32);
  for (const auto& [name, solver] : kEverySolver) {
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

// A few at a time, samples are what they are together: iterates, traces, order, and the gradients
// of an exact adjoint.
TEST(FixedPoint, AFewAtATimeGiveTheSameBits) {
  const Tensor rate = random_tensor({7, 12}, 4).to(DType::f32);
  const Tensor x = random_tensor({7, 12}, 3).to(DType::f32);
  for (const auto& [name, solver] : kEverySolver) {
    Calls calls;
    std::vector<Tensor> gradients;
    const auto run = [&, s = solver](int64_t at_a_time) {
      const std::vector<Tensor> inputs = {rate.clone().set_requires_grad(),
                                          x.clone().set_requires_grad()};
      const implicit::Stopping stopping{
          .tolerance = 1e-4, .max_iterations = 50, .at_a_time = at_a_time};
      calls = {};
      auto found = fixed_point(
          [&](const Tensor& v, std::span<const Tensor> in) {
            calls.rows.push_back(v.dim(0));
            return ops::tanh(ops::add(ops::mul(v, in[0]), in[1]));
          },
          Tensor::zeros({7, 12}), inputs,
          {.solver = s, .forward = stopping, .adjoint = implicit::Exact{.stopping = stopping}});
      gradients = vjp({&found.z, 1}, inputs, {&x, 1});
      return found;
    };
    const auto together = run(0);
    const std::vector<Tensor> wanted = gradients;
    for (const int64_t at_a_time : {1, 2, 3}) {
      const auto few = run(at_a_time);
      expect_same_bits(few.z, together.z, name);
      for (size_t k = 0; k < 2; ++k) expect_same_bits(gradients[k], wanted[k], name);
      EXPECT_EQ(few.report->forward.rows_evaluated, together.report->forward.rows_evaluated);
      for (size_t k = 0; k < 7; ++k) {
        EXPECT_EQ(few.report->forward.samples[k].trace, together.report->forward.samples[k].trace);
        EXPECT_EQ(few.report->adjoint->samples[k].trace,
                  together.report->adjoint->samples[k].trace);
      }
      // But for the one application at all fixed points that gradients come from.
      EXPECT_EQ(std::count_if(calls.rows.begin(), calls.rows.end(),
                              [&](int64_t rows) { return rows > at_a_time; }),
                1)
          << name;
    }
  }
}

TEST(FixedPoint, WarmStartEndsAtOnce) {
  const NoGrad no_grad;
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

}  // namespace
}  // namespace stillpoint::test
