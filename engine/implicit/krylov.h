// Krylov bases, one per row of a batch, built by Arnoldi's method: what GMRES and the spectrum
// stand on. For the files of engine/implicit/ only.
#pragma once

#include <vector>

#include "engine/tensor.h"

namespace stillpoint::implicit {

// One vector of coefficients per row.
using Coefficients = std::vector<std::vector<double>>;

// sum_k a[r, k] b[r, k] for rows of [rows, n], as [rows, 1].
Tensor row_dots(const Tensor& a, const Tensor& b);
// [rows, 1] from one number per row.
Tensor column_of(const std::vector<double>& values, TensorOptions options);
std::vector<double> values_of(const Tensor& t);

class KrylovBasis {
 public:
  // The first vector is `start` [rows, n], normalised.
  explicit KrylovBasis(const Tensor& start);

  const std::vector<double>& start_norms() const { return start_norms_; }
  int size() const { return static_cast<int>(vectors_.size()); }
  const Tensor& last() const { return vectors_.back(); }

  // Appends what of w [rows, n] is orthogonal to the basis. Returns a column of Hessenberg's matrix
  // per row: the products with the vectors so far, and the length of what is left. Gram-Schmidt
  // twice, which is enough (Kahan, Parlett 1980). Where nothing is left but rounding the length is
  // 0 and so is the vector.
  Coefficients append(const Tensor& w);
  // sum_j y[row][j] v_j; missing coefficients are 0.
  Tensor combine(const Coefficients& y) const;

 private:
  // x / |x| per row, and the norms; rows not longer than `floor` give 0.
  Tensor normalised(const Tensor& x, const std::vector<double>& floor,
                    std::vector<double>& norms) const;

  std::vector<Tensor> vectors_;
  std::vector<double> start_norms_;
};

}  // namespace stillpoint::implicit
