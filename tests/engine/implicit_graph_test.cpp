// The loop as a CUDA graph does what the host's loop does, without the host.
#include <gmock/gmock.h>

#include <cmath>
#include <limits>

#include "engine/dispatch.h"
#include "tests/support/equilibrium.h"
#include "tests/support/op_test.h"

namespace stillpoint::test {
namespace {

using implicit::Anderson;
using implicit::Damped;
using implicit::Exact;
using implicit::fixed_point;
using implicit::FixedPoint;
using implicit::FixedPointOptions;
using implicit::Loop;
using implicit::Reason;
using testing::HasSubstr;
using testing::ThrowsMessage;

Tensor on_cuda(const Tensor& t) { return t.to(DType::f32).to(Device::cuda); }

// Rows that need very different numbers of iterations.
Tensor rates() { return on_cuda(f64({0.9, 0.0, 0.5, 0.97, -0.6}, {5, 1})); }
Tensor affine_map(const Tensor& z, const Tensor& rate) {
  return ops::affine(ops::mul(rate, z), 1.0, 1.0);
}

void expect_same(const implicit::SolveReport& got, const implicit::SolveReport& wanted,
                 const std::string& what) {
  EXPECT_EQ(got.evaluations, wanted.evaluations) << what;
  ASSERT_EQ(got.samples.size(), wanted.samples.size()) << what;
  EXPECT_EQ(got.rows_evaluated, got.evaluations * static_cast<int64_t>(got.samples.size())) << what;
  for (size_t k = 0; k < got.samples.size(); ++k) {
    const auto &a = got.samples[k], &b = wanted.samples[k];
    EXPECT_EQ(a.reason, b.reason) << what << ", sample " << k;
    ASSERT_EQ(a.iterations(), b.iterations()) << what << ", sample " << k;
    for (size_t i = 0; i < a.trace.size(); ++i) {
      if (std::isnan(b.trace[i])) {
        EXPECT_TRUE(std::isnan(a.trace[i])) << what << ", sample " << k;
      } else {
        EXPECT_NEAR(a.trace[i], b.trace[i], 1e-6 + 1e-3 * b.trace[i]) << what << ", sample " << k;
      }
    }
  }
}

TEST(GraphLoop, SolvesAsTheHostDoes) {
  if (!available(Device::cuda)) GTEST_SKIP() << "no CUDA device";
  for (const auto& [name, solver] : kEverySolver) {
    const auto run = [&, s = solver](Loop loop) {
      return fixed_point(
          affine_map, Tensor::full({5, 3}, 0.25, {.device = Device::cuda}), rates(),
          {.solver = s, .forward = {.tolerance = 1e-3, .max_iterations = 40, .loop = loop}});
    };
    const FixedPoint host = run(Loop::host), graph = run(Loop::graph);
    expect_same(graph.report->forward, host.report->forward, name);
    expect_same_bits(graph.z, host.z, name);  // elementwise: no sum's order depends on the rows
    EXPECT_GE(graph.report->forward.rows_evaluated, host.report->forward.rows_evaluated) << name;
  }
}

TEST(GraphLoop, SolvesANetworkAndItsAdjoint) {
  if (!available(Device::cuda)) GTEST_SKIP() << "no CUDA device";
  const ReluEquilibrium truth(33);
  const Tensor x = random_tensor({6, 33}, 3), g = random_tensor({6, 33}, 4);
  const FixedPoint exact = fixed_point(truth, Tensor::zeros({6, 33}, {DType::f64}), x, tight());
  backward(ops::sum(ops::mul(exact.z, g)));
  for (const auto& [name, solver] : kEverySolver) {
    const implicit::Stopping stopping{
        .tolerance = 1e-6, .max_iterations = 300, .loop = Loop::graph};
    const auto adjoint = std::visit([](auto s) { return implicit::AdjointSolver(s); }, solver);
    const ReluEquilibrium net = truth.to(DType::f32, Device::cuda);
    const auto [z, report] =
        fixed_point(net, Tensor::zeros({6, 33}, {.device = Device::cuda}), on_cuda(x),
                    {.solver = solver,
                     .forward = stopping,
                     .adjoint = Exact{.solver = adjoint, .stopping = stopping}});
    EXPECT_LT(relative_error(z, exact.z), 1e-5) << name;
    backward(ops::sum(ops::mul(z, on_cuda(g))));
    EXPECT_EQ(report->forward.unconverged() + report->adjoint_unconverged, 0) << name;
    EXPECT_GT(report->adjoint->evaluations, 2) << name;
    for (size_t k = 0; k < 3; ++k)
      EXPECT_LT(relative_error(net.parameters()[k].grad(), truth.parameters()[k].grad()), 1e-4)
          << name << ", parameter " << k;
  }
}

// However many iterations there are, the host puts two on the stream: the first, and the captured
// one.
TEST(GraphLoop, HostTakesNoPart) {
  if (!available(Device::cuda)) GTEST_SKIP() << "no CUDA device";
  const NoGrad quiet;
  int calls[2];
  int64_t kernels[2];
  for (const int k : {0, 1}) {
    calls[k] = 0;
    const int64_t before = kernel_counts().cuda;
    const auto [z, report] = fixed_point(
        [&](const Tensor& v) {
          ++calls[k];
          return ops::affine(v, 0.9, 1.0);
        },
        Tensor::zeros({3, 4}, {.device = Device::cuda}),
        {.solver = Damped{},
         .forward = {.tolerance = 0, .max_iterations = k == 0 ? 3 : 90, .loop = Loop::graph}});
    kernels[k] = kernel_counts().cuda - before;
    EXPECT_EQ(report->forward.evaluations, k == 0 ? 3 : 90);
    EXPECT_EQ(report->forward.samples[0].iterations(), k == 0 ? 3 : 90);
  }
  EXPECT_EQ(calls[0], 2);
  EXPECT_EQ(calls[1], 2);
  EXPECT_EQ(kernels[0], kernels[1]);
}

TEST(GraphLoop, EndsWhereTheHostEnds) {
  if (!available(Device::cuda)) GTEST_SKIP() << "no CUDA device";
  const NoGrad quiet;
  const auto run = [](const Tensor& z0, const Tensor& rate, int cap) {
    FixedPointOptions options{.solver = Damped{},
                              .forward = {.tolerance = 1e-5, .max_iterations = cap}};
    const auto host = fixed_point(affine_map, z0, rate, options);
    options.forward.loop = Loop::graph;
    auto graph = fixed_point(affine_map, z0, rate, options);
    expect_same(graph.report->forward, host.report->forward, "cap " + std::to_string(cap));
    expect_same_bits(graph.z, host.z, "z");
    return graph.report->forward;
  };
  const Tensor z0 = Tensor::zeros({5, 1}, {.device = Device::cuda});
  EXPECT_EQ(run(z0, rates(), 1).evaluations, 1);
  EXPECT_EQ(run(z0, rates(), 2).evaluations, 2);
  EXPECT_EQ(run(z0, rates(), 7).samples[3].reason, Reason::iteration_cap);
  // All converged at once: no second evaluation counts.
  const Tensor still = Tensor::zeros({5, 1}, {.device = Device::cuda});
  EXPECT_EQ(run(Tensor::full({5, 1}, 1, {.device = Device::cuda}), still, 9).evaluations, 1);
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const auto stopped = run(z0, on_cuda(f64({0.5, nan, 0.2, 1e30, 0.1}, {5, 1})), 50);
  EXPECT_EQ(stopped.samples[1].reason, Reason::non_finite);
  EXPECT_EQ(stopped.samples[1].iterations(), 1);
  EXPECT_EQ(stopped.samples[3].reason, Reason::non_finite);
  EXPECT_TRUE(stopped.samples[4].converged());
  const Tensor none = Tensor::zeros({0, 1}, {.device = Device::cuda});
  EXPECT_EQ(run(none, none, 9).evaluations, 0);
}

// f that holds on to a tensor, returns its argument or ignores it.
TEST(GraphLoop, ImagesMayBeAnyTensor) {
  if (!available(Device::cuda)) GTEST_SKIP() << "no CUDA device";
  const NoGrad quiet;
  const Tensor z0 = Tensor::full({2, 3}, 0.5, {.device = Device::cuda});
  Tensor constant = Tensor::full({2, 3}, 4, {.device = Device::cuda});
  const FixedPointOptions options{.forward = {.loop = Loop::graph}};
  EXPECT_EQ(fixed_point([](const Tensor& z) { return z; }, z0, options).z.to_vector<float>(),
            z0.to_vector<float>());
  EXPECT_EQ(fixed_point([&](const Tensor&) { return constant; }, z0, options).z.to_vector<float>(),
            constant.to_vector<float>());
  Tensor last;
  const auto [z, report] =
      fixed_point([&](const Tensor& v) { return last = ops::affine(v, 0.5, 1.0); }, z0, options);
  EXPECT_EQ(report->forward.unconverged(), 0);
  EXPECT_NEAR(z.to_vector<float>()[0], 2, 1e-3);
}

TEST(GraphLoop, RefusesWhatAGraphCannotDo) {
  const auto half = [](const Tensor& z) { return ops::affine(z, 0.5, 1.0); };
  FixedPointOptions options{.forward = {.loop = Loop::graph}};
  EXPECT_THAT(
      [&] {
        fixed_point(half, Tensor::zeros({2, 3}), options);
      },
      ThrowsMessage<OptionError>(HasSubstr("z0 is on cpu; wanted Loop::host")));
  options.forward.look_every = 2;
  EXPECT_THAT(
      [&] {
        fixed_point(half, Tensor::zeros({2, 3}), options);
      },
      ThrowsMessage<OptionError>(HasSubstr("look_every is 2 with Loop::graph")));
  options.forward.look_every = 1;
  options.adjoint = Exact{.solver = implicit::Gmres{}, .stopping = {.loop = Loop::graph}};
  EXPECT_THAT(
      [&] {
        fixed_point(half, Tensor::zeros({2, 3}), options);
      },
      ThrowsMessage<OptionError>(HasSubstr("GMRES with Loop::graph")));
}

TEST(GraphLoop, FunctionThatNeedsTheHostIsRefused) {
  if (!available(Device::cuda)) GTEST_SKIP() << "no CUDA device";
  const NoGrad quiet;
  const FixedPointOptions options{.forward = {.loop = Loop::graph}};
  const Tensor z0 = Tensor::zeros({2, 3}, {.device = Device::cuda});
  const auto refused = [&](const implicit::Map& f, const std::string& why) {
    EXPECT_THAT([&] { fixed_point(f, z0, {}, options); },
                ThrowsMessage<DeviceError>(testing::AllOf(
                    HasSubstr("with Loop::graph f may not wait for the device"), HasSubstr(why))));
  };
  refused(
      [](const Tensor& z, std::span<const Tensor>) {
        return ops::affine(z, 0.5, static_cast<double>(z.to_vector<float>()[0]));
      },
      "cudaStreamSynchronize");
  refused(
      [](const Tensor& z, std::span<const Tensor>) {
        return ops::add(ops::affine(z, 0.5), Tensor::full({2, 3}, 1).to(Device::cuda));
      },
      "cudaStreamSynchronize");
  int call = 0;
  refused(
      [&](const Tensor& z, std::span<const Tensor>) {
        const Tensor grows = Tensor::empty({++call * 1234567}, z.options());
        return ops::affine(z, 0.5, 1.0);
      },
      "none has this size");
  // An error of f's own is what it is, and nothing is left of the capture.
  EXPECT_THROW(fixed_point(
                   [&](const Tensor& z) {
                     check<ShapeError>(++call % 2 == 1, "no");
                     return ops::affine(z, 0.5, 1.0);
                   },
                   z0, options),
               ShapeError);
  EXPECT_EQ(fixed_point([](const Tensor& z) { return ops::affine(z, 0.5, 1.0); }, z0, options)
                .report->forward.unconverged(),
            0);
}

}  // namespace
}  // namespace stillpoint::test
