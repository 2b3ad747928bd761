#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <complex>

#include "engine/gradcheck.h"
#include "engine/implicit/spectrum.h"
#include "engine/implicit/stability.h"
#include "tests/support/equilibrium.h"
#include "tests/support/op_test.h"

namespace stillpoint::test {
namespace {

using implicit::hessenberg_eigenvalues;
using implicit::leading_spectrum;
using Complex = std::complex<double>;

// Every wanted value is found once, within `bound`.
void expect_values(std::vector<Complex> got, const std::vector<Complex>& wanted, double bound) {
  ASSERT_GE(got.size(), wanted.size());
  for (const Complex w : wanted) {
    const auto nearest = std::min_element(got.begin(), got.end(), [w](Complex a, Complex b) {
      return std::abs(a - w) < std::abs(b - w);
    });
    EXPECT_LT(std::abs(*nearest - w), bound) << w << ", found " << *nearest;
    got.erase(nearest);
  }
}

// ---- small eigenvalue problems -----------------------------------------------------------------

TEST(HessenbergEigenvalues, KnownMatrices) {
  expect_values(hessenberg_eigenvalues({7}, 1), {7}, 1e-15);
  expect_values(hessenberg_eigenvalues({0, -1, 1, 0}, 2), {{0, 1}, {0, -1}}, 1e-14);
  expect_values(hessenberg_eigenvalues({2, 1, 1, 2}, 2), {3, 1}, 1e-14);
  expect_values(hessenberg_eigenvalues({0, 0, 0, 0, 0, 0, 0, 0, 0}, 3), {0, 0, 0}, 1e-15);
  // A cycle of four: the roots of unity, which unshifted steps never leave.
  expect_values(hessenberg_eigenvalues({0, 0, 0, 1, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0}, 4),
                {1, -1, {0, 1}, {0, -1}}, 1e-14);
  EXPECT_TRUE(hessenberg_eigenvalues({}, 0).empty());
  EXPECT_THROW(hessenberg_eigenvalues({1, 2, 3}, 2), ShapeError);
}

// The companion matrix of (x - 1)(x - 2)...(x - 5), and of a triple root, which is as sensitive as
// the cube root of rounding.
TEST(HessenbergEigenvalues, CompanionMatrices) {
  expect_values(
      hessenberg_eigenvalues(
          {15, -85, 225, -274, 120, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0}, 5),
      {1, 2, 3, 4, 5}, 1e-10);
  expect_values(hessenberg_eigenvalues({3, -3, 1, 1, 0, 0, 0, 1, 0}, 3), {1, 1, 1}, 1e-4);
}

TEST(HessenbergEigenvalues, LargestFirst) {
  const auto values = hessenberg_eigenvalues({1, 5, 5, 0, -3, 5, 0, 0, 2}, 3);
  EXPECT_THAT(values, testing::ElementsAre(Complex(-3), Complex(2), Complex(1)));
}

// ---- Jacobians ---------------------------------------------------------------------------------

// A matrix, not symmetric, with eigenvalues 0.9 e^(+-0.7 i) and others of modulus `below` or less:
// block triangular, then mixed by elementary similarities.
Tensor matrix_with_pair(int64_t size, double below) {
  const auto n = static_cast<size_t>(size);
  std::vector<double> a(n * n, 0.0);
  const std::vector<double> u = random_tensor({size, size}, 1).to_vector<double>();
  const double coupling = 0.5 / std::sqrt(static_cast<double>(size));  // not so far from normal
  for (size_t i = 0; i < n; ++i) {
    a[i * n + i] = below * u[i * n + i];
    for (size_t j = i + 1; j < n; ++j) a[i * n + j] = coupling * u[i * n + j];
  }
  a[0] = a[n + 1] = 0.9 * std::cos(0.7);
  a[1] = -0.9 * std::sin(0.7);
  a[n] = 0.9 * std::sin(0.7);
  const std::vector<double> factors = random_tensor({size}, 2, 0.3).to_vector<double>();
  for (size_t k = 0; k < factors.size(); ++k) {
    const size_t i = (5 * k + 3) % n, j = (3 * k + 1) % n;
    if (i == j) continue;
    for (size_t c = 0; c < n; ++c) a[i * n + c] += factors[k] * a[j * n + c];
    for (size_t r = 0; r < n; ++r) a[r * n + j] -= factors[k] * a[r * n + i];
  }
  return Tensor::from(a, {size, size});
}

const std::vector<Complex> kPair = {std::polar(0.9, 0.7), std::polar(0.9, -0.7)};

// Two samples, the second with half of the first's Jacobian.
std::vector<implicit::SampleSpectrum> spectrum_of(const Tensor& a, int vectors,
                                                  DType dtype = DType::f64,
                                                  Device device = Device::cpu) {
  const auto place = [&](const Tensor& t) { return t.to(dtype).to(device); };
  const Tensor matrix = place(a), rates = place(Tensor::from<double>({1, 0.5}, {2, 1}));
  return leading_spectrum(
      [&](const Tensor& z, std::span<const Tensor> in) {
        return ops::mul(ops::linear(z, matrix), in[0]);
      },
      place(random_tensor({2, a.dim(0)}, 3)), {rates}, {.vectors = vectors});
}

TEST(Spectrum, WholeKrylovSpaceIsExact) {
  const auto spectra = spectrum_of(matrix_with_pair(8, 0.6), 8);
  ASSERT_EQ(spectra.size(), 2u);
  EXPECT_EQ(spectra[0].eigenvalues.size(), 8u);
  expect_values(spectra[0].eigenvalues, kPair, 1e-10);
  expect_values(spectra[1].eigenvalues, {0.5 * kPair[0], 0.5 * kPair[1]}, 1e-10);
  EXPECT_NEAR(spectra[0].radius(), 0.9, 1e-10);
  EXPECT_NEAR(spectra[1].radius(), 0.45, 1e-10);
}

TEST(Spectrum, TwentyVectorsFindTheLeadingPair) {
  const auto spectra = spectrum_of(matrix_with_pair(120, 0.5), 20);
  EXPECT_EQ(spectra[0].eigenvalues.size(), 20u);
  expect_values({spectra[0].eigenvalues.begin(), spectra[0].eigenvalues.begin() + 2}, kPair, 1e-3);
  EXPECT_NEAR(spectra[1].radius(), 0.45, 1e-3);
}

TEST(Spectrum, SinglePrecisionOnEveryDevice) {
  for (const Device device : {Device::cpu, Device::cuda}) {
    if (!available(device)) continue;
    const auto spectra = spectrum_of(matrix_with_pair(40, 0.5), 20, DType::f32, device);
    expect_values(spectra[0].eigenvalues, kPair, 2e-3);
  }
}

TEST(Spectrum, IsTakenAtThePointGiven) {
  const Tensor z = Tensor::from<double>({0.0, 0.5, 1.0}, {1, 3});
  const auto spectra = leading_spectrum(
      [](const Tensor& v, std::span<const Tensor>) { return ops::tanh(v); }, z, {});
  const auto slope = [](double x) { return 1 - std::tanh(x) * std::tanh(x); };
  expect_values(spectra[0].eigenvalues, {slope(0.0), slope(0.5), slope(1.0)}, 1e-10);
}

TEST(Spectrum, DegenerateJacobians) {
  const implicit::Map zero = [](const Tensor& v, std::span<const Tensor>) {
    return ops::affine(v, 0.0);
  };
  const implicit::Map twice = [](const Tensor& v, std::span<const Tensor>) {
    return ops::affine(v, 2.0);
  };
  const implicit::Map broken = [](const Tensor& v, std::span<const Tensor>) {
    return ops::sqrt(v);
  };
  const Tensor z = random_tensor({1, 6}, 1);
  EXPECT_EQ(leading_spectrum(zero, z, {})[0].radius(), 0);
  // One vector spans the space: the rest must not be made of rounding.
  EXPECT_EQ(leading_spectrum(twice, z, {})[0].eigenvalues.size(), 1u);
  EXPECT_NEAR(leading_spectrum(twice, z, {})[0].radius(), 2, 1e-14);
  const auto none = leading_spectrum(broken, Tensor::zeros({1, 6}, {DType::f64}), {});
  EXPECT_TRUE(none[0].eigenvalues.empty());
  EXPECT_TRUE(std::isnan(none[0].radius()));
  EXPECT_TRUE(leading_spectrum(zero, Tensor::zeros({0, 6}), {}).empty());
  EXPECT_THROW(leading_spectrum(zero, z, {}, {.vectors = 0}), OptionError);
}

// ---- penalty and clip --------------------------------------------------------------------------

TEST(JacobianPenalty, EstimatesTheFrobeniusNorm) {
  const Tensor a = random_tensor({5, 5}, 4);
  double wanted = 0;
  for (const double x : a.to_vector<double>()) wanted += x * x / 5;
  Philox random(1);
  const Tensor z = random_tensor({3, 5}, 5);
  const Tensor estimate = implicit::jacobian_penalty(
      [&](const Tensor& v, std::span<const Tensor>) { return ops::linear(v, a); }, z, {}, random,
      4000);
  // 12000 samples, whose deviation is below 2 |A^T A|_F / n < 2 wanted.
  EXPECT_NEAR(estimate.item(), wanted, 4 * 2 * wanted / std::sqrt(12000.0));
}

TEST(JacobianPenalty, HasTheRightGradient) {
  const Tensor z = random_tensor({3, 4}, 5);
  const auto f = [&](std::span<const Tensor> in) {
    Philox random(1);
    return implicit::jacobian_penalty(
        [&](const Tensor& v, std::span<const Tensor> x) {
          return ops::tanh(ops::add(ops::linear(v, in[0]), x[0]));
        },
        z, {in[1]}, random, 2);
  };
  const GradcheckReport report = gradcheck(f, {random_tensor({4, 4}, 6), random_tensor({3, 4}, 7)});
  EXPECT_TRUE(report.ok) << report.message;
}

// To log it, f may be made of ops without a second derivative.
TEST(JacobianPenalty, IsANumberWithoutGradients) {
  const Tensor z = random_tensor({3, 4}, 5);
  Tensor w = random_tensor({4}, 6);
  w.set_requires_grad();
  const implicit::Map f = [&](const Tensor& v, std::span<const Tensor>) {
    return checkpoint([&](std::span<const Tensor> in) { return ops::tanh(ops::mul(in[0], w)); },
                      {v});
  };
  const auto penalty = [&] {
    Philox random(1);
    return implicit::jacobian_penalty(f, z, {}, random, 2);
  };
  EXPECT_THROW(penalty(), GradientError);
  const NoGrad quiet;
  const Tensor number = penalty();
  EXPECT_GT(number.item(), 0);
  EXPECT_FALSE(number.requires_grad());
}

TEST(JacobianPenalty, WithoutInfluenceIsZero) {
  Philox random(1);
  const Tensor z = random_tensor({3, 4}, 5);
  EXPECT_EQ(implicit::jacobian_penalty(
                [&](const Tensor&, std::span<const Tensor>) { return Tensor(z); }, z, {}, random)
                .item(),
            0);
  EXPECT_THROW(
      implicit::jacobian_penalty(
          [&](const Tensor& v, std::span<const Tensor>) { return Tensor(v); }, z, {}, random, 0),
      OptionError);
}

TEST(SpectralClip, BoundsTheNormAndLeavesSmallWeightsAlone) {
  for (const Device device : {Device::cpu, Device::cuda}) {
    if (!available(device)) continue;
    const auto clipped = [&](double norm) {
      implicit::SpectralClip clip({.clip = 0.9, .iterations = 200});
      const Tensor w = matrix_with_norm(6, norm, 1).to(DType::f32).to(device);
      const Tensor bounded = clip(w);
      EXPECT_NEAR(clip.norm().item(), norm, 1e-4);
      return relative_error(bounded, w);
    };
    EXPECT_LT(clipped(0.5), 1e-7);
    EXPECT_NEAR(clipped(3.0), 1 - 0.3, 1e-4);
  }
}

TEST(SpectralClip, HasTheRightGradient) {
  for (const double norm : {0.5, 2.0}) {
    const auto f = [](std::span<const Tensor> in) {
      return implicit::SpectralClip({.clip = 0.9, .iterations = 500})(in[0]);
    };
    const GradcheckReport report =
        gradcheck(f, {matrix_with_norm(4, norm, 1)}, {.tolerance = 1e-6});
    EXPECT_TRUE(report.ok) << norm << ": " << report.message;
  }
}

// A layer that starts at zero must not be lost sight of.
TEST(SpectralClip, SurvivesAWeightOfZeros) {
  implicit::SpectralClip clip({.clip = 0.9, .iterations = 100});
  EXPECT_THAT(clip(Tensor::zeros({5, 5})).to_vector<float>(), testing::Each(0.f));
  const Tensor bounded = clip(matrix_with_norm(5, 3.0, 1).to(DType::f32));
  EXPECT_NEAR(clip.norm().item(), 3, 1e-3);
  EXPECT_NEAR(relative_error(bounded, matrix_with_norm(5, 3.0, 1)), 1 - 0.3, 1e-3);
}

TEST(SpectralClip, RefusesWrongOptionsAndInputs) {
  EXPECT_THROW(implicit::SpectralClip({.clip = 0}), OptionError);
  EXPECT_THROW(implicit::SpectralClip({.iterations = 0}), OptionError);
  implicit::SpectralClip clip({});
  EXPECT_THROW(clip(Tensor::zeros({3})), ShapeError);
}

}  // namespace
}  // namespace stillpoint::test
