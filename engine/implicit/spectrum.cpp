#include "engine/implicit/spectrum.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "engine/implicit/application.h"
#include "engine/implicit/krylov.h"
#include "engine/ops.h"

namespace stillpoint::implicit {
namespace {

using Complex = std::complex<double>;

// The complex QR method on an upper Hessenberg matrix, with Wilkinson's shift and deflation: a few
// dozen rows at most, so that simplicity counts for more than speed.
class ComplexQr {
 public:
  ComplexQr(const std::vector<double>& matrix, int n) : n_(n), h_(matrix.begin(), matrix.end()) {}

  std::vector<Complex> eigenvalues() {
    std::vector<Complex> found;
    int last = n_ - 1, tries = 0;
    while (last >= 0) {
      const int first = start_of_block(last);
      if (first == last) {
        found.push_back(at(last, last));
        --last;
        tries = 0;
      } else {
        // Every tenth try shifts by something else, in case the method runs in a circle.
        const Complex shift =
            ++tries % 10 == 0 ? at(last, last) + std::abs(at(last, last - 1)) : wilkinson(last);
        if (tries > 300) return {};
        step(first, last, shift);
      }
    }
    return found;
  }

 private:
  Complex& at(int i, int j) {
    return h_[static_cast<size_t>(i) * static_cast<size_t>(n_) + static_cast<size_t>(j)];
  }

  // The first row of the unreduced block that ends with `last`.
  int start_of_block(int last) {
    int k = last;
    for (; k > 0; --k) {
      const double size = std::abs(at(k, k)) + std::abs(at(k - 1, k - 1));
      if (std::abs(at(k, k - 1)) <= std::numeric_limits<double>::epsilon() * size) {
        at(k, k - 1) = 0;
        break;
      }
    }
    return k;
  }

  // The eigenvalue of the last 2 x 2 block that is nearer to its corner.
  Complex wilkinson(int last) {
    const Complex a = at(last - 1, last - 1), d = at(last, last);
    const Complex middle = 0.5 * (a + d), half = 0.5 * (a - d);
    const Complex root = std::sqrt(half * half + at(last - 1, last) * at(last, last - 1));
    const Complex one = middle + root, two = middle - root;
    return std::abs(one - d) < std::abs(two - d) ? one : two;
  }

  // H - shift = Q R, then R Q + shift, by Givens rotations, within rows [first, last].
  void step(int first, int last, Complex shift) {
    for (int k = first; k <= last; ++k) at(k, k) -= shift;
    std::vector<std::pair<double, Complex>> rotations;
    for (int k = first; k < last; ++k) {
      const Complex x = at(k, k), y = at(k + 1, k);
      const double length = std::hypot(std::abs(x), std::abs(y));
      const Complex phase = std::abs(x) > 0 ? x / std::abs(x) : Complex(1);
      const double c = length > 0 ? std::abs(x) / length : 1;
      const Complex s = length > 0 ? phase * std::conj(y) / length : Complex(0);
      for (int j = k; j <= last; ++j) {
        const Complex upper = at(k, j), lower = at(k + 1, j);
        at(k, j) = c * upper + s * lower;
        at(k + 1, j) = -std::conj(s) * upper + c * lower;
      }
      rotations.emplace_back(c, s);
    }
    for (int k = first; k < last; ++k) {
      const auto [c, s] = rotations[static_cast<size_t>(k - first)];
      for (int i = first; i <= std::min(k + 1, last); ++i) {
        const Complex left = at(i, k), right = at(i, k + 1);
        at(i, k) = c * left + std::conj(s) * right;
        at(i, k + 1) = -s * left + c * right;
      }
    }
    for (int k = first; k <= last; ++k) at(k, k) += shift;
  }

  int n_;
  std::vector<Complex> h_;
};

// Columns of Hessenberg's matrix of one sample as a square, cut where its Krylov space ended.
std::vector<Complex> ritz_values(const std::vector<std::vector<double>>& columns) {
  size_t n = 0;
  while (n < columns.size()) {
    const bool finite = std::all_of(columns[n].begin(), columns[n].end(),
                                    [](double x) { return std::isfinite(x); });
    if (!finite) return {};
    if (columns[n++].back() == 0) break;
  }
  std::vector<double> h(n * n, 0.0);
  for (size_t j = 0; j < n; ++j)
    for (size_t i = 0; i < std::min(n, j + 2); ++i) h[i * n + j] = columns[j][i];
  return hessenberg_eigenvalues(std::move(h), static_cast<int>(n));
}

}  // namespace

std::vector<Complex> hessenberg_eigenvalues(std::vector<double> matrix, int n) {
  check<ShapeError>(static_cast<size_t>(n) * static_cast<size_t>(n) == matrix.size(),
                    "spectrum: {} elements are no {} x {} matrix", matrix.size(), n, n);
  std::vector<Complex> found = ComplexQr(matrix, n).eigenvalues();
  std::sort(found.begin(), found.end(),
            [](Complex a, Complex b) { return std::abs(a) > std::abs(b); });
  return found;
}

std::vector<SampleSpectrum> leading_spectrum(const Map& f, const Tensor& z,
                                             const std::vector<Tensor>& inputs,
                                             SpectrumOptions options) {
  check_floating(z, "spectrum", "z");
  check<ShapeError>(z.rank() >= 1, "spectrum: z has shape [], wanted [batch, ...]");
  check<OptionError>(options.vectors >= 1, "spectrum: {} vectors, wanted 1 or more",
                     options.vectors);
  const int64_t batch = z.dim(0), n = batch == 0 ? 0 : z.numel() / batch;
  std::vector<SampleSpectrum> spectra(static_cast<size_t>(batch));
  if (z.numel() == 0) return spectra;
  const NoGrad quiet;
  const Segment jacobian = jacobian_at(f, z, inputs);
  Philox random(options.seed);
  KrylovBasis basis(ops::normal({batch, n}, random, 0.0, 1.0, z.options()));
  std::vector<Coefficients> columns(spectra.size());
  for (int j = 0; j < std::min<int64_t>(options.vectors, n); ++j) {
    const Tensor v = ops::reshape(basis.last(), z.shape());
    const Coefficients h = basis.append(ops::reshape(transposed(jacobian, v), {batch, n}));
    for (size_t r = 0; r < spectra.size(); ++r) columns[r].push_back(h[r]);
  }
  for (size_t r = 0; r < spectra.size(); ++r) spectra[r].eigenvalues = ritz_values(columns[r]);
  return spectra;
}

}  // namespace stillpoint::implicit
