// Adjoint solves that fail, and gradients of samples that failed. Each test fails if what other
// libraries of implicit layers let pass in silence happens here.
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
using implicit::Exact;
using implicit::fixed_point;
using implicit::FixedPointOptions;
using implicit::Gmres;
using implicit::OnFailure;
using implicit::Reason;
using testing::Each;
using testing::HasSubstr;
using testing::ThrowsMessage;

const std::vector<implicit::AdjointSolver> kEveryAdjoint = {Damped{}, Anderson{}, Broyden{},
                                                            Gmres{}};

// z = 3 z + x: Broyden's method finds -x / 2, plain iteration of its adjoint diverges.
struct Repelling {
  Tensor x = parameter({1, -4}, {2, 1});

  implicit::FixedPoint solve(const Exact& adjoint) const {
    FixedPointOptions options = tight(Broyden{});
    options.adjoint = adjoint;
    return fixed_point(
        [](const Tensor& z, const Tensor& in) { return ops::add(ops::affine(z, 3.0), in); },
        Tensor::zeros({2, 1}, {DType::f64}), x, options);
  }
  std::vector<double> gradient(const Exact& adjoint) const {
    return vjp(solve(adjoint).z, x, f64({1, 2}, {2, 1})).to_vector<double>();
  }
};

TEST(ImplicitAdjoint, AdjointOfARepellingPointIsExactWhereItConverges) {
  const Repelling at;
  for (const implicit::AdjointSolver& solver :
       std::vector<implicit::AdjointSolver>{Anderson{}, Broyden{}, Gmres{}}) {
    const std::vector<double> g = at.gradient({.solver = solver, .stopping = {.tolerance = 1e-12}});
    EXPECT_NEAR(g[0], -0.5, 1e-8);
    EXPECT_NEAR(g[1], -1, 1e-8);
  }
}

TEST(ImplicitAdjoint, FailedAdjointIsReportedAndFallsBack) {
  const Repelling at;
  const auto [z, report] = at.solve({.solver = Damped{}, .stopping = {.max_iterations = 30}});
  EXPECT_EQ(report->forward.unconverged(), 0);
  backward(ops::sum(z));
  ASSERT_TRUE(report->adjoint);
  EXPECT_EQ(report->adjoint->unconverged(), 2);
  EXPECT_EQ(report->adjoint_unconverged, 2);
  EXPECT_EQ(report->adjoint->samples[0].reason, Reason::iteration_cap);
  EXPECT_GT(report->adjoint->samples[0].residual, 0.1);

  const auto gradient = [&](OnFailure choice) {
    return at.gradient(
        {.solver = Damped{}, .stopping = {.max_iterations = 30}, .on_failure = choice});
  };
  // The best iterate is the start: every other has a larger residual.
  EXPECT_EQ(gradient(OnFailure::keep_best), (std::vector<double>{1, 2}));
  EXPECT_EQ(gradient(OnFailure::one_step), (std::vector<double>{1, 2}));
  // 0.5 (1 + 2 + 4 + 8 + 16): B = 0.5 * 3 + 0.5 = 2.
  EXPECT_EQ(gradient(OnFailure::phantom), (std::vector<double>{15.5, 31}));
  EXPECT_THAT([&] { gradient(OnFailure::error); },
              ThrowsMessage<GradientError>(
                  HasSubstr("the adjoint solve of 2 of 2 samples did not converge")));
}

// Samples that converged keep their solution.
TEST(ImplicitAdjoint, OnlyFailedSamplesFallBack) {
  const Tensor rate = f64({0.5, 3.0}, {2, 1});
  Tensor x = parameter({1, 1}, {2, 1});
  FixedPointOptions options = tight(Broyden{});
  options.adjoint = Exact{.solver = Damped{},
                          .stopping = {.tolerance = 1e-12, .max_iterations = 100},
                          .on_failure = OnFailure::one_step};
  const implicit::Map f = [](const Tensor& z, std::span<const Tensor> in) {
    return ops::add(ops::mul(in[0], z), in[1]);
  };
  const auto [z, report] = fixed_point(f, Tensor::zeros({2, 1}, {DType::f64}), {rate, x}, options);
  backward(ops::sum(z));
  EXPECT_NEAR(x.grad().to_vector<double>()[0], 2, 1e-9);
  EXPECT_EQ(x.grad().to_vector<double>()[1], 1);
  EXPECT_EQ(report->adjoint->unconverged(), 1);
}

// The adjoint is solved to its own tolerance, however loosely the forward was, and no solver says
// that it converged when it ran out of iterations.
TEST(ImplicitAdjoint, AdjointToleranceIsItsOwn) {
  const ReluEquilibrium net(10);
  const Tensor x = random_tensor({3, 10}, 3), z0 = Tensor::zeros({3, 10}, {DType::f64});
  for (const implicit::AdjointSolver& solver : kEveryAdjoint) {
    const auto adjoint = [&](int max_iterations) {
      const auto [z, report] = fixed_point(
          net, z0, x,
          {.forward = {.tolerance = 1e-2},
           .adjoint = Exact{.solver = solver,
                            .stopping = {.tolerance = 1e-12, .max_iterations = max_iterations}}});
      backward(ops::sum(z));
      return *report->adjoint;
    };
    for (const auto& sample : adjoint(300).samples) {
      EXPECT_TRUE(sample.converged());
      EXPECT_LE(sample.residual, 1e-12);
    }
    for (const auto& sample : adjoint(5).samples) {
      EXPECT_EQ(sample.reason, Reason::iteration_cap);
      EXPECT_EQ(sample.iterations(), 5);
      EXPECT_GT(sample.residual, 1e-12);
    }
  }
}

// What GMRES reports is the residual of the equation, not what its recurrence believes.
TEST(ImplicitAdjoint, GmresResidualsAreTrue) {
  const Tensor a = matrix_with_norm(12, 0.95, 5);
  Tensor x = random_tensor({2, 12}, 6).to(DType::f32);
  x.set_requires_grad();
  const Tensor a32 = a.to(DType::f32);
  const auto [z, report] = fixed_point(
      [&](const Tensor& v, const Tensor& in) { return ops::add(ops::linear(v, a32), in); },
      Tensor::zeros({2, 12}), x,
      {.adjoint = Exact{.solver = Gmres{6}, .stopping = {.tolerance = 1e-5}}});
  const Tensor g = random_tensor({2, 12}, 7).to(DType::f32);
  const Tensor u = vjp(z, x, g);  // x enters by the identity
  const Tensor image = ops::add(ops::matmul(u, a32), g);
  EXPECT_EQ(report->adjoint->unconverged(), 0);
  EXPECT_LT(relative_error(u, image), 1.2e-5);
}

// A sample that is not finite gives no gradient and takes none, instead of making everybody's NaN.
TEST(ImplicitAdjoint, NonFiniteSamplesAreLeftOut) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (const implicit::AdjointSolver& solver : kEveryAdjoint) {
    const Tensor w = parameter({0.5}, {1});
    Tensor x = parameter({1, nan, 3}, {3, 1});
    const auto [z, report] =
        fixed_point([&](const Tensor& v, const Tensor& in) { return ops::add(ops::mul(v, w), in); },
                    Tensor::zeros({3, 1}, {DType::f64}), x, tight(Damped{}, solver));
    EXPECT_EQ(report->left_out, 1);
    EXPECT_EQ(report->forward.samples[1].reason, Reason::non_finite);
    backward(ops::sum(z));
    EXPECT_NEAR(w.grad().item(), 4 * (1 + 3), 1e-8);
    const std::vector<double> dx = x.grad().to_vector<double>();
    EXPECT_NEAR(dx[0], 2, 1e-9);
    EXPECT_EQ(dx[1], 0);
    EXPECT_NEAR(dx[2], 2, 1e-9);
    ASSERT_EQ(report->adjoint->samples.size(), 3u);
    EXPECT_EQ(report->adjoint->samples[1].reason, Reason::non_finite);
    EXPECT_TRUE(report->adjoint->samples[2].converged());
  }
}

TEST(ImplicitAdjoint, EverySampleMayBeLeftOut) {
  const Tensor w = parameter({0.5}, {1});
  const Tensor x = Tensor::full({2, 1}, std::numeric_limits<double>::infinity(), {DType::f64});
  const Tensor z =
      fixed_point([&](const Tensor& v, const Tensor& in) { return ops::add(ops::mul(v, w), in); },
                  Tensor::zeros({2, 1}, {DType::f64}), x, tight())
          .z;
  backward(ops::sum(z));
  EXPECT_THAT(w.grad().to_vector<double>(), Each(0.0));
}

// A gradient that is NaN stays NaN, in its own sample, and the report says why.
TEST(ImplicitAdjoint, NanGradientsAreNotHidden) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (const implicit::AdjointSolver& solver : kEveryAdjoint) {
    Tensor x = parameter({1, 2}, {2, 1});
    const auto [z, report] = fixed_point(
        [](const Tensor& v, const Tensor& in) { return ops::add(ops::affine(v, 0.5), in); },
        Tensor::zeros({2, 1}, {DType::f64}), x, tight(Damped{}, solver));
    const std::vector<double> g = vjp(z, x, f64({nan, 1}, {2, 1})).to_vector<double>();
    EXPECT_TRUE(std::isnan(g[0]));
    EXPECT_NEAR(g[1], 2, 1e-9);
    EXPECT_EQ(report->adjoint->samples[0].reason, Reason::non_finite);
    EXPECT_TRUE(report->adjoint->samples[1].converged());
  }
}

}  // namespace
}  // namespace stillpoint::test
