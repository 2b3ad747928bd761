// The gradient of a fixed point against three independent ones: the closed form of an affine map,
// finite differences, and backpropagation through 200 steps.
#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "engine/dispatch.h"
#include "engine/gradcheck.h"
#include "tests/support/equilibrium.h"
#include "tests/support/op_test.h"

namespace stillpoint::test {
namespace {

using implicit::AdjointSolver;
using implicit::Anderson;
using implicit::Broyden;
using implicit::Damped;
using implicit::Exact;
using implicit::fixed_point;
using implicit::Gmres;

const std::vector<std::pair<std::string, AdjointSolver>> kAdjoints = {{"damped", Damped{}},
                                                                      {"anderson", Anderson{}},
                                                                      {"broyden", Broyden{}},
                                                                      {"gmres", Gmres{}},
                                                                      {"short_gmres", Gmres{4}}};

// The solution of A X = R, dense, by Gauss's method with row exchanges: n x n and n x columns.
std::vector<double> solve_dense(std::vector<double> a, std::vector<double> r, size_t n,
                                size_t columns) {
  for (size_t k = 0; k < n; ++k) {
    size_t best = k;
    for (size_t i = k; i < n; ++i)
      if (std::abs(a[i * n + k]) > std::abs(a[best * n + k])) best = i;
    for (size_t j = 0; j < n; ++j) std::swap(a[k * n + j], a[best * n + j]);
    for (size_t j = 0; j < columns; ++j) std::swap(r[k * columns + j], r[best * columns + j]);
    for (size_t i = 0; i < n; ++i) {
      if (i == k) continue;
      const double factor = a[i * n + k] / a[k * n + k];
      for (size_t j = 0; j < n; ++j) a[i * n + j] -= factor * a[k * n + j];
      for (size_t j = 0; j < columns; ++j) r[i * columns + j] -= factor * r[k * columns + j];
    }
  }
  for (size_t i = 0; i < n; ++i)
    for (size_t j = 0; j < columns; ++j) r[i * columns + j] /= a[i * n + i];
  return r;
}

Tensor transposed(const Tensor& t) {
  std::vector<double> v(static_cast<size_t>(t.numel()));
  const std::vector<double> from = t.to_vector<double>();
  const auto rows = static_cast<size_t>(t.dim(0)), columns = static_cast<size_t>(t.dim(1));
  for (size_t i = 0; i < rows; ++i)
    for (size_t j = 0; j < columns; ++j) v[j * rows + i] = from[i * columns + j];
  return Tensor::from(v, {t.dim(1), t.dim(0)});
}

// z = A z + x: z* = (I - A)^-1 x and, for the gradient g of z*, u = (I - A^T)^-1 g = dx, dA = sum
// over samples of u z*^T.
TEST(ImplicitGradient, ClosedFormOfAnAffineMap) {
  constexpr int64_t kSize = 6, kBatch = 4;
  Tensor a = matrix_with_norm(kSize, 0.8, 5), x = random_tensor({kBatch, kSize}, 6);
  a.set_requires_grad();
  x.set_requires_grad();
  const Tensor g = random_tensor({kBatch, kSize}, 7);
  std::vector<double> system = a.to_vector<double>();
  for (size_t i = 0; i < kSize; ++i)
    for (size_t j = 0; j < kSize; ++j)
      system[i * kSize + j] = (i == j ? 1.0 : 0.0) - system[i * kSize + j];
  const Tensor matrix = Tensor::from(system, {kSize, kSize});
  const auto solved = [&](const Tensor& m, const Tensor& right) {
    return transposed(Tensor::from(
        solve_dense(m.to_vector<double>(), transposed(right).to_vector<double>(), kSize, kBatch),
        {kSize, kBatch}));
  };
  const Tensor z_wanted = solved(matrix, x.detach()), u = solved(transposed(matrix), g);
  const Tensor da = ops::matmul(transposed(u), z_wanted);

  for (const auto& [forward, solver] : std::vector<std::pair<std::string, implicit::Solver>>{
           {"damped", Damped{}}, {"anderson", Anderson{}}, {"broyden", Broyden{}}})
    for (const auto& [backward_name, adjoint] : kAdjoints) {
      const auto [z, report] = fixed_point(
          [&](const Tensor& v, const Tensor& in) { return ops::add(ops::linear(v, a), in); },
          Tensor::zeros({kBatch, kSize}, {DType::f64}), x, tight(solver, adjoint));
      const std::vector<Tensor> targets = {x, a};
      const auto found = vjp({&z, 1}, targets, {&g, 1});
      const std::string what = forward + ", adjoint by " + backward_name;
      EXPECT_LT(relative_error(z, z_wanted), 1e-8) << what;
      EXPECT_LT(relative_error(found[0], u), 1e-8) << what;
      EXPECT_LT(relative_error(found[1], da), 1e-8) << what;
      ASSERT_TRUE(report->adjoint) << what;
      EXPECT_EQ(report->adjoint->unconverged(), 0) << what;
    }
}

// The network of the next tests at a point where no pre-activation is within 1e-3 of the kink.
struct Instance {
  ReluEquilibrium net{10};
  Tensor x = random_tensor({4, 10}, 3);
  Tensor z0 = Tensor::zeros({4, 10}, {DType::f64});

  Instance() {
    const NoGrad quiet;
    const Tensor z = fixed_point(net, z0, x, tight()).z;
    double nearest = 1;
    for (const double p : net.preactivation(z, x).to_vector<double>())
      nearest = std::min(nearest, std::abs(p));
    EXPECT_GT(nearest, 1e-3);
  }
};

TEST(ImplicitGradient, FiniteDifferences) {
  const Instance at;
  for (const auto& [name, adjoint] : kAdjoints) {
    const auto f = [&, a = adjoint](std::span<const Tensor> in) {
      ReluEquilibrium net = at.net;
      net.w = in[1];
      net.u = in[2];
      net.b = in[3];
      return fixed_point(net, at.z0, in[0], tight(Anderson{}, a)).z;
    };
    const GradcheckReport report = gradcheck(
        f, {at.x, at.net.w.detach(), at.net.u.detach(), at.net.b.detach()}, {.tolerance = 1e-6});
    EXPECT_TRUE(report.ok) << name << ": " << report.message;
  }
}

std::vector<Tensor> gradients(const ReluEquilibrium& net, const Tensor& x, const Tensor& z) {
  const Tensor g = random_tensor(z.shape(), 8).to(z.dtype()).to(z.device());
  std::vector<Tensor> targets = net.parameters();
  targets.push_back(x);
  return vjp({&z, 1}, targets, {&g, 1});
}

TEST(ImplicitGradient, UnrolledSteps) {
  Instance at;
  at.x.set_requires_grad();
  Tensor unrolled = at.z0;
  for (int k = 0; k < 200; ++k) unrolled = at.net(unrolled, at.x);
  const std::vector<Tensor> wanted = gradients(at.net, at.x, unrolled);
  for (const auto& [name, adjoint] : kAdjoints) {
    const Tensor z = fixed_point(at.net, at.z0, at.x, tight(Anderson{}, adjoint)).z;
    const std::vector<Tensor> got = gradients(at.net, at.x, z);
    for (size_t k = 0; k < wanted.size(); ++k)
      EXPECT_LT(relative_error(got[k], wanted[k]), 1e-8) << name << ", target " << k;
  }
}

TEST(ImplicitGradient, SinglePrecisionOnEveryDevice) {
  Instance at;
  at.x.set_requires_grad();
  const std::vector<Tensor> wanted =
      gradients(at.net, at.x, fixed_point(at.net, at.z0, at.x, tight()).z);
  for (const Device device : {Device::cpu, Device::cuda}) {
    if (!available(device)) continue;
    const ReluEquilibrium net = at.net.to(DType::f32, device);
    Tensor x = at.x.detach().to(DType::f32).to(device).clone();
    x.set_requires_grad();
    for (const auto& [name, adjoint] : kAdjoints) {
      const auto [z, report] =
          fixed_point(net, at.z0.to(DType::f32).to(device), x,
                      {.forward = {.tolerance = 1e-6},
                       .adjoint = Exact{.solver = adjoint,
                                        .stopping = {.tolerance = 1e-6, .max_iterations = 100}}});
      const std::vector<Tensor> got = gradients(net, x, z);
      EXPECT_EQ(report->adjoint->unconverged(), 0) << name << " on " << stillpoint::name(device);
      for (size_t k = 0; k < wanted.size(); ++k)
        EXPECT_LT(relative_error(got[k], wanted[k]), 1e-4)
            << name << " on " << stillpoint::name(device) << ", target " << k;
    }
    for (const implicit::Loop loop : {implicit::Loop::host, implicit::Loop::graph}) {
      if (loop == implicit::Loop::graph && device == Device::cpu) continue;
      const auto [z, report] =
          fixed_point(net, at.z0.to(DType::f32).to(device), x,
                      {.forward = {.tolerance = 1e-6, .loop = loop},
                       .adjoint = implicit::UnrolledPhantomGradient{.steps = 100}});
      const std::vector<Tensor> got = gradients(net, x, z);
      for (size_t k = 0; k < wanted.size(); ++k)
        EXPECT_LT(relative_error(got[k], wanted[k]), 1e-4)
            << "unrolled on " << stillpoint::name(device) << ", target " << k;
    }
  }
}

// ---- approximations, against their formulas on an affine map -----------------------------------

TEST(ImplicitGradient, ApproximationsAreWhatTheyAreCalled) {
  const Tensor a = matrix_with_norm(5, 0.8, 5), g = random_tensor({3, 5}, 7);
  Tensor x = random_tensor({3, 5}, 6);
  x.set_requires_grad();
  const auto gradient = [&](const implicit::Adjoint& adjoint) {
    const Tensor z = fixed_point([&](const Tensor& v,
                                     const Tensor& in) { return ops::add(ops::linear(v, a), in); },
                                 Tensor::zeros({3, 5}, {DType::f64}), x, {.adjoint = adjoint})
                         .z;
    return vjp(z, x, g);
  };
  const auto jt = [&](const Tensor& v) { return ops::matmul(v, a); };  // rows: (A^T v)^T = v^T A
  EXPECT_LT(relative_error(gradient(implicit::OneStep{}), g), 1e-15);
  EXPECT_LT(relative_error(gradient(implicit::Neumann{.terms = 3}),
                           ops::add(g, ops::add(jt(g), jt(jt(g))))),
            1e-14);
  // 0.25 (g + B g + B B g) with B = 0.25 J^T + 0.75 I.
  const auto b = [&](const Tensor& v) {
    return ops::add(ops::affine(jt(v), 0.25), ops::affine(v, 0.75));
  };
  EXPECT_LT(relative_error(gradient(implicit::PhantomGradient{.steps = 3, .damping = 0.25}),
                           ops::affine(ops::add(g, ops::add(b(g), b(b(g)))), 0.25)),
            1e-14);
  EXPECT_LT(relative_error(gradient(implicit::Neumann{.terms = 200}), gradient(tight().adjoint)),
            1e-8);
  // J is the same everywhere: unrolled steps are a phantom gradient's.
  EXPECT_LT(relative_error(gradient(implicit::UnrolledPhantomGradient{.steps = 3, .damping = 0.25}),
                           gradient(implicit::PhantomGradient{.steps = 3, .damping = 0.25})),
            1e-14);
}

// Far from any fixed point: what is differentiated has to be what the loss has read.
TEST(ImplicitGradient, OneStepIsTheGradientOfTheImage) {
  Instance at;
  at.x.set_requires_grad();
  implicit::FixedPointOptions options = {.solver = Damped{}, .forward = {.max_iterations = 2}};
  const Tensor iterate = [&] {
    const NoGrad no_grad;
    return fixed_point(at.net, at.z0, at.x, options).z;
  }();
  const Tensor image = at.net(iterate, at.x);
  EXPECT_GT(relative_error(image, iterate), 1e-2);
  // Of a loss that is not linear in z: where it is read tells.
  const auto gradients_of_squares = [&](const Tensor& z) {
    const Tensor loss = ops::sum(ops::square(z)), one = Tensor::full({}, 1.0, z.options());
    return vjp({&loss, 1}, at.net.parameters(), {&one, 1});
  };
  const std::vector<Tensor> wanted = gradients_of_squares(image);
  const std::vector<implicit::Adjoint> same = {implicit::OneStep{}, implicit::Neumann{.terms = 1},
                                               implicit::UnrolledPhantomGradient{.steps = 1}};
  for (const implicit::Adjoint& adjoint : same) {
    options.adjoint = adjoint;
    const Tensor z = fixed_point(at.net, at.z0, at.x, options).z;
    EXPECT_EQ(z.to_vector<double>(), image.to_vector<double>()) << adjoint.index();
    const std::vector<Tensor> got = gradients_of_squares(z);
    for (size_t k = 0; k < wanted.size(); ++k)
      EXPECT_LT(relative_error(got[k], wanted[k]), 1e-14) << adjoint.index() << ", target " << k;
  }
  options.adjoint = implicit::OneStep{};
  options.output = implicit::Output::iterate;
  const Tensor z = fixed_point(at.net, at.z0, at.x, options).z;
  EXPECT_EQ(z.to_vector<double>(), iterate.to_vector<double>());
  EXPECT_GT(relative_error(gradients_of_squares(z)[0], wanted[0]), 1e-2);
}

// On an affine map after two iterations: (I - A^T)^-1 g, whichever is returned, and of A its
// product with the iterate.
TEST(ImplicitGradient, TheExactOneShortOfAFixedPoint) {
  Tensor a = matrix_with_norm(5, 0.8, 5).clone();
  a.set_requires_grad();
  Tensor x = random_tensor({1, 5}, 6);
  x.set_requires_grad();
  const auto f = [&](const Tensor& v, const Tensor& in) { return ops::add(ops::linear(v, a), in); };
  const Tensor g = random_tensor({1, 5}, 7);
  implicit::FixedPointOptions options = tight();
  options.solver = Damped{};
  options.forward.max_iterations = 2;
  const Tensor iterate = [&] {
    const NoGrad no_grad;
    return fixed_point(f, Tensor::zeros({1, 5}, {DType::f64}), x, options).z;
  }();
  Tensor u = g;
  for (int k = 0; k < 300; ++k) u = ops::add(ops::matmul(u, a.detach()), g);
  for (const implicit::Output output : {implicit::Output::image, implicit::Output::iterate}) {
    options.output = output;
    const Tensor z = fixed_point(f, Tensor::zeros({1, 5}, {DType::f64}), x, options).z;
    const Tensor wanted = output == implicit::Output::image ? f(iterate, x) : iterate;
    EXPECT_EQ(z.to_vector<double>(), wanted.to_vector<double>()) << name(output);
    const std::vector<Tensor> targets = {a, x}, got = vjp({&z, 1}, targets, {&g, 1});
    EXPECT_LT(relative_error(got[1], u), 1e-9) << name(output);
    EXPECT_LT(relative_error(got[0], ops::matmul(ops::reshape(u, {5, 1}), iterate)), 1e-9)
        << name(output);
  }
}

// Where J changes from step to step.
TEST(ImplicitGradient, UnrolledIsTheGradientOfItsSteps) {
  Instance at;
  at.x.set_requires_grad();
  const implicit::FixedPointOptions none = {.solver = Damped{}, .forward = {.max_iterations = 2}};
  for (const double damping : {1.0, 0.5}) {
    Tensor z = [&] {
      const NoGrad no_grad;
      return fixed_point(at.net, at.z0, at.x, none).z;
    }();
    const Tensor begin = z;
    for (int k = 0; k < 4; ++k) {
      const Tensor next = at.net(z, at.x);
      z = damping == 1 ? next : ops::add(ops::affine(next, damping), ops::affine(z, 1 - damping));
    }
    const std::vector<Tensor> wanted = gradients(at.net, at.x, z);
    implicit::FixedPointOptions options = none;
    options.adjoint = implicit::UnrolledPhantomGradient{.steps = 4, .damping = damping};
    const auto found = fixed_point(at.net, at.z0, at.x, options);
    EXPECT_EQ(found.z.to_vector<double>(), z.to_vector<double>());
    EXPECT_GT(relative_error(found.z, begin), 1e-3);
    const std::vector<Tensor> got = gradients(at.net, at.x, found.z);
    for (size_t k = 0; k < wanted.size(); ++k)
      EXPECT_LT(relative_error(got[k], wanted[k]), 1e-14) << "target " << k;
  }
}

TEST(ImplicitGradient, UnrolledLeavesOutWhatIsNotFinite) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  Tensor w = Tensor::from<double>({0.5}, {1, 1});
  w.set_requires_grad();
  Tensor x = Tensor::from<double>({1, nan, 2}, {3, 1});
  x.set_requires_grad();
  const auto [z, report] = fixed_point(
      [&](const Tensor& v, const Tensor& in) { return ops::add(ops::linear(v, w), in); },
      Tensor::full({3, 1}, 0.25, {DType::f64}), x,
      {.forward = {.tolerance = 1e-12}, .adjoint = implicit::UnrolledPhantomGradient{.steps = 2}});
  EXPECT_EQ(report->left_out, 1);
  const std::vector<double> v = z.to_vector<double>();
  EXPECT_NEAR(v[0], 2, 1e-9);
  EXPECT_EQ(v[1], 0.25);
  EXPECT_NEAR(v[2], 4, 1e-9);
  backward(ops::sum(z));
  // z = w (w z* + x) + x with z* held: dz/dx = 1 + w, dz/dw = (w z* + x) + w z*.
  EXPECT_THAT(x.grad().to_vector<double>(), testing::ElementsAre(1.5, 0.0, 1.5));
  EXPECT_NEAR(w.grad().item(), (2 + 1) + (4 + 2), 1e-8);
}

// The second sample is finite in the one evaluation of the solve, and no more after five steps.
TEST(ImplicitGradient, UnrolledLeavesOutWhatItsStepsDriveToInfinity) {
  for (const Device device : {Device::cpu, Device::cuda}) {
    if (!available(device)) continue;
    Tensor rate = Tensor::from<float>({0.5F, 1e15F, 0.25F}, {3, 1}).to(device).clone();
    rate.set_requires_grad();
    Tensor w = Tensor::from<float>({1}, {1, 1}).to(device).clone();
    w.set_requires_grad();
    const auto [z, report] = fixed_point(
        [&](const Tensor& v, const Tensor& in) { return ops::mul(ops::linear(v, w), in); },
        Tensor::full({3, 1}, 1.0, {.device = device}), rate,
        {.forward = {.max_iterations = 1},
         .adjoint = implicit::UnrolledPhantomGradient{.steps = 4}});
    EXPECT_EQ(report->left_out, 1) << name(device);
    EXPECT_THAT(z.to_vector<float>(), testing::ElementsAre(0.0625F, 1, 0.00390625F));
    backward(ops::sum(z));
    // (w r)^4 with w = 1: 4 r^3 and 4 r^4.
    EXPECT_THAT(rate.grad().to_vector<float>(), testing::ElementsAre(0.5F, 0, 0.0625F));
    EXPECT_EQ(w.grad().item(), 4 * (0.0625 + 0.00390625)) << name(device);
  }
}

// ---- samples leave the adjoint too -------------------------------------------------------------

// z = a z + x: the adjoint of a sample with a = 0 is found at once. Half of them leave, and the
// tape is made anew for the others only.
TEST(ImplicitGradient, SamplesLeaveTheAdjoint) {
  Tensor a = Tensor::from<double>({0, 0.9, 0, 0.5}, {4, 1}), x = random_tensor({4, 1}, 1, 1, 0.5);
  a.set_requires_grad();
  x.set_requires_grad();
  const auto [z, report] =
      fixed_point([](const Tensor& v,
                     std::span<const Tensor> in) { return ops::add(ops::mul(in[0], v), in[1]); },
                  Tensor::zeros({4, 1}, {DType::f64}), {a, x}, tight(Damped{}, Damped{}));
  backward(ops::sum(z));
  const std::vector<double> rates = a.to_vector<double>(), points = z.to_vector<double>();
  for (size_t k = 0; k < 4; ++k) {
    EXPECT_NEAR(x.grad().to_vector<double>()[k], 1 / (1 - rates[k]), 1e-9);
    EXPECT_NEAR(a.grad().to_vector<double>()[k], points[k] / (1 - rates[k]), 1e-8);
  }
  const implicit::SolveReport& adjoint = *report->adjoint;
  EXPECT_EQ(adjoint.samples[0].iterations(), 1);
  EXPECT_LT(adjoint.samples[3].iterations(), adjoint.samples[1].iterations() / 2);
  EXPECT_LT(adjoint.rows_evaluated, 2 * adjoint.evaluations);
}

// The same with GMRES, whose samples 1 and 3 need restarts: their residuals fall, on one scale, and
// the gradients are each sample's own.
TEST(ImplicitGradient, SamplesLeaveGmres) {
  Tensor rates = random_tensor({4, 6}, 2, 0.9), x = random_tensor({4, 6}, 1);
  rates = ops::mul(rates, Tensor::from<double>({0, 1, 0, 1}, {4, 1}));
  x.set_requires_grad();
  const auto [z, report] =
      fixed_point([](const Tensor& v,
                     std::span<const Tensor> in) { return ops::add(ops::mul(in[0], v), in[1]); },
                  Tensor::zeros({4, 6}, {DType::f64}), {rates, x},
                  {.adjoint = Exact{.solver = Gmres{3},
                                    .stopping = {.tolerance = 1e-12,
                                                 .max_iterations = 200,
                                                 .residual = implicit::Residual::absolute}}});
  const Tensor g =
      ops::mul(random_tensor({4, 6}, 3), Tensor::from<double>({1, 1, 1, 1e-3}, {4, 1}));
  const std::vector<double> got = vjp(z, x, g).to_vector<double>();
  const std::vector<double> a = rates.to_vector<double>(), right = g.to_vector<double>();
  for (size_t k = 0; k < got.size(); ++k) EXPECT_NEAR(got[k], right[k] / (1 - a[k]), 1e-10);
  const implicit::SolveReport& adjoint = *report->adjoint;
  EXPECT_EQ(adjoint.unconverged(), 0);
  int64_t rows = 0;
  for (const auto& sample : adjoint.samples) rows += sample.iterations();
  EXPECT_EQ(adjoint.rows_evaluated, rows);  // each leaves as soon as it is done
  EXPECT_EQ(adjoint.samples[0].iterations(), 1);
  for (const size_t sample : {size_t{1}, size_t{3}}) {
    const std::vector<double>& trace = adjoint.samples[sample].trace;
    EXPECT_GT(trace.size(), 5u);
    for (size_t k = 1; k < trace.size(); ++k) EXPECT_LE(trace[k], trace[k - 1] * (1 + 1e-3));
  }
}

// Iterations of the adjoint cost the same whether f's parameters want gradients or not.
TEST(ImplicitGradient, ProductsFormNoGradientsOfParameters) {
  const auto kernels_of = [](bool trained, int iterations) {
    ReluEquilibrium net(10);
    if (!trained) net.w = net.w.detach();
    const auto [z, report] =
        fixed_point(net, Tensor::zeros({4, 10}, {DType::f64}), random_tensor({4, 10}, 3),
                    {.forward = {.max_iterations = 5},
                     .adjoint = Exact{.solver = Damped{},
                                      .stopping = {.tolerance = 0, .max_iterations = iterations}}});
    const int64_t before = kernel_counts().reference;
    backward(ops::sum(z));
    return kernel_counts().reference - before;
  };
  const int64_t trained = kernels_of(true, 12) - kernels_of(true, 2);
  EXPECT_EQ(trained, kernels_of(false, 12) - kernels_of(false, 2));
  EXPECT_EQ(trained % 10, 0);
}

}  // namespace
}  // namespace stillpoint::test
