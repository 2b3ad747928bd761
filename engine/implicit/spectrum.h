// Instruments that tell whether an equilibrium network is about to lose its stability.
#pragma once

#include <complex>
#include <limits>
#include <vector>

#include "engine/implicit/fixed_point.h"
#include "engine/random.h"

namespace stillpoint::implicit {

struct SpectrumOptions {
  int vectors = 16;  // of the Krylov space, so many evaluations of J^T v: 10 to 20 find the radius
  uint64_t seed = 1;
};

struct SampleSpectrum {
  // Ritz values, largest modulus first; as many as the Krylov space has dimensions.
  std::vector<std::complex<double>> eigenvalues;
  // NaN without eigenvalues.
  double radius() const {
    return eigenvalues.empty() ? std::numeric_limits<double>::quiet_NaN()
                               : std::abs(eigenvalues[0]);
  }
};

// Leading eigenvalues of the Jacobian df/dz of every sample at z, by Arnoldi's method with vjp
// alone: J and its transpose have the same spectrum. z may be a fixed point or any point on the way
// there. Applies f once, on a tape; records nothing. A sample whose Jacobian is not finite, or that
// has no elements, has no eigenvalues.
std::vector<SampleSpectrum> leading_spectrum(const Map& f, const Tensor& z,
                                             const std::vector<Tensor>& inputs,
                                             SpectrumOptions options = {});

// Eigenvalues of a real n x n upper Hessenberg matrix (row-major), largest modulus first.
std::vector<std::complex<double>> hessenberg_eigenvalues(std::vector<double> matrix, int n);

}  // namespace stillpoint::implicit
