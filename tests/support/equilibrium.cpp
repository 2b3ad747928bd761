#include "tests/support/equilibrium.h"

#include <cmath>

#include "tests/support/op_test.h"

namespace stillpoint::test {
namespace {

std::vector<double> values(const Tensor& t) {
  return t.to(Device::cpu).to(DType::f64).to_vector<double>();
}

double norm(const std::vector<double>& v) {
  double sum = 0;
  for (const double x : v) sum += x * x;
  return std::sqrt(sum);
}

}  // namespace

Tensor f64(std::vector<double> values, Shape shape) {
  return Tensor::from(values, std::move(shape));
}

Tensor parameter(std::vector<double> values, Shape shape) {
  Tensor t = f64(std::move(values), std::move(shape));
  t.set_requires_grad();
  return t;
}

const std::vector<std::pair<std::string, implicit::Solver>> kEverySolver = {
    {"damped", implicit::Damped{}},
    {"half_damped", implicit::Damped{.step = 0.5}},
    {"anderson", implicit::Anderson{}},
    {"anderson_mixed", implicit::Anderson{.memory = 3, .mixing = 0.7}},
    {"broyden", implicit::Broyden{}}};

double relative_error(const Tensor& got, const Tensor& wanted) {
  const std::vector<double> g = values(got), w = values(wanted);
  EXPECT_EQ(g.size(), w.size());
  std::vector<double> difference(g.size());
  for (size_t k = 0; k < g.size(); ++k) difference[k] = g[k] - w[k];
  return norm(difference) / norm(w);
}

Tensor matrix_with_norm(int64_t size, double wanted, uint64_t seed) {
  const Tensor a = random_tensor({size, size}, seed);
  Tensor v = random_tensor({1, size}, seed + 1);
  double largest = 0;
  for (int k = 0; k < 200; ++k) {  // power iteration on A^T A
    const Tensor image = ops::matmul(ops::linear(v, a), a);
    largest = norm(values(image)) / norm(values(v));
    v = ops::affine(image, 1 / norm(values(image)));
  }
  return ops::affine(a, wanted / std::sqrt(largest));
}

ReluEquilibrium::ReluEquilibrium(int64_t size, double norm, uint64_t seed)
    : w(matrix_with_norm(size, norm, seed)),
      u(random_tensor({size, size}, seed + 10)),
      b(random_tensor({size}, seed + 20)) {
  for (Tensor* t : {&w, &u, &b}) t->set_requires_grad();
}

ReluEquilibrium ReluEquilibrium::to(DType dtype, Device device) const {
  ReluEquilibrium copy = *this;
  for (Tensor* t : {&copy.w, &copy.u, &copy.b}) {
    *t = t->detach().to(dtype).to(device).clone();
    t->set_requires_grad();
  }
  return copy;
}

implicit::FixedPointOptions tight(implicit::Solver solver, implicit::AdjointSolver adjoint) {
  return {.solver = solver,
          .forward = {.tolerance = 1e-12, .max_iterations = 300},
          .adjoint = implicit::Exact{.solver = adjoint,
                                     .stopping = {.tolerance = 1e-12, .max_iterations = 300}}};
}

}  // namespace stillpoint::test
