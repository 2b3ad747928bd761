// A small network with a known contraction, for the tests of engine/implicit/.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "engine/implicit/fixed_point.h"
#include "engine/ops.h"

namespace stillpoint::test {

// Leaves, float64.
Tensor f64(std::vector<double> values, Shape shape);
Tensor parameter(std::vector<double> values, Shape shape);  // wants a gradient

// Every solver, and some twice, with names.
extern const std::vector<std::pair<std::string, implicit::Solver>> kEverySolver;

// |got - wanted| / |wanted|, Euclidean, over all elements.
double relative_error(const Tensor& got, const Tensor& wanted);

// `size` x `size`, float64, with spectral norm `norm`.
Tensor matrix_with_norm(int64_t size, double norm, uint64_t seed);

// z' = relu(W z + U x + b), a contraction by 0.8 at most: W and b are captured, x [batch, size] is
// the per-sample input.
struct ReluEquilibrium {
  Tensor w, u, b;

  explicit ReluEquilibrium(int64_t size, double norm = 0.8, uint64_t seed = 1);
  // A copy elsewhere, whose parameters are leaves of their own.
  ReluEquilibrium to(DType dtype, Device device) const;

  Tensor preactivation(const Tensor& z, const Tensor& x) const {
    return ops::add(ops::linear(z, w, b), ops::linear(x, u));
  }
  Tensor operator()(const Tensor& z, const Tensor& x) const {
    return ops::relu(preactivation(z, x));
  }
  std::vector<Tensor> parameters() const { return {w, u, b}; }
};

// Solves to 1e-12 in float64, forward and adjoint.
implicit::FixedPointOptions tight(implicit::Solver solver = implicit::Anderson{},
                                  implicit::AdjointSolver adjoint = implicit::Anderson{});

// How often and with how many rows f was called.
struct Calls {
  std::vector<int64_t> rows;
  int64_t total() const {
    int64_t sum = 0;
    for (const int64_t n : rows) sum += n;
    return sum;
  }
};

}  // namespace stillpoint::test
