#include "engine/implicit/krylov.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "engine/ops.h"

namespace stillpoint::implicit {

Tensor row_dots(const Tensor& a, const Tensor& b) {
  return ops::sum(ops::mul(a, b), -1, ops::KeepDim::yes);
}

Tensor column_of(const std::vector<double>& values, TensorOptions options) {
  return Tensor::from(values, {static_cast<int64_t>(values.size()), 1})
      .to(options.dtype)
      .to(options.device);
}

std::vector<double> values_of(const Tensor& t) {
  return t.to(Device::cpu).to(DType::f64).to_vector<double>();
}

KrylovBasis::KrylovBasis(const Tensor& start) {
  const std::vector<double> floor(static_cast<size_t>(start.dim(0)), 0.0);
  vectors_.push_back(normalised(start, floor, start_norms_));
}

Tensor KrylovBasis::normalised(const Tensor& x, const std::vector<double>& floor,
                               std::vector<double>& norms) const {
  norms = values_of(row_dots(x, x));
  std::vector<double> scale(norms.size());
  for (size_t r = 0; r < norms.size(); ++r) {
    norms[r] = std::sqrt(norms[r]);
    if (norms[r] <= floor[r]) norms[r] = 0;
    scale[r] = norms[r] > 0 ? 1 / norms[r] : 0;
  }
  return ops::mul(x, column_of(scale, x.options()));
}

Coefficients KrylovBasis::append(const Tensor& w) {
  std::vector<Tensor> products = {row_dots(w, w)};
  Tensor left = w;
  for (int pass = 0; pass < 2; ++pass)
    for (const Tensor& v : vectors_) {
      products.push_back(row_dots(v, left));
      left = ops::sub(left, ops::mul(v, products.back()));
    }
  const std::vector<double> all = values_of(ops::concat(products));
  const size_t rows = start_norms_.size(), n = vectors_.size();
  Coefficients h(rows, std::vector<double>(n + 1));
  const double epsilon = w.dtype() == DType::f64 ? std::numeric_limits<double>::epsilon()
                                                 : std::numeric_limits<float>::epsilon();
  std::vector<double> floor(rows), norms;
  for (size_t r = 0; r < rows; ++r) {
    const double* p = all.data() + r * (2 * n + 1);
    for (size_t j = 0; j < n; ++j) h[r][j] = p[1 + j] + p[1 + n + j];
    floor[r] = 32 * epsilon * std::sqrt(p[0]);
  }
  vectors_.push_back(normalised(left, floor, norms));
  for (size_t r = 0; r < rows; ++r) h[r][n] = norms[r];
  return h;
}

Tensor KrylovBasis::combine(const Coefficients& y) const {
  size_t most = 0;
  for (const auto& row : y) most = std::max(most, row.size());
  Tensor sum = Tensor::zeros(vectors_.front().shape(), vectors_.front().options());
  for (size_t j = 0; j < most; ++j) {
    std::vector<double> weights;
    for (const auto& row : y) weights.push_back(j < row.size() ? row[j] : 0.0);
    sum = ops::add(sum, ops::mul(vectors_[j], column_of(weights, sum.options())));
  }
  return sum;
}

}  // namespace stillpoint::implicit
