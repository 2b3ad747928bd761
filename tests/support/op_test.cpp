#include "tests/support/op_test.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "engine/autograd.h"
#include "engine/dispatch.h"
#include "engine/gradcheck.h"
#include "engine/random.h"
#include "kernels/common/parallel.h"
#include "kernels/common/simd.h"

namespace stillpoint::test {
namespace {

// The output of a case and the gradients of its floating inputs along a fixed random cotangent.
struct Results {
  Tensor output;
  std::vector<Tensor> gradients;
};

Tensor cotangent_for(const Tensor& output) { return random_tensor(output.shape(), 99); }

Results run(const OpCase& c, DType dtype, Device device, BackwardOptions options = {}) {
  std::vector<Tensor> inputs, targets;
  for (const Tensor& t : c.inputs) {
    if (t.dtype() == DType::i32) {
      inputs.push_back(t.to(device));
      continue;
    }
    Tensor x = t.to(dtype).to(device).clone();
    if (c.derivatives != Derivatives::none) {
      x.set_requires_grad();
      targets.push_back(x);
    }
    inputs.push_back(x);
  }
  Results r;
  r.output = c.op(inputs);
  if (!targets.empty() && r.output.requires_grad()) {
    const Tensor g = cotangent_for(r.output).to(r.output.dtype()).to(device);
    r.gradients = vjp({&r.output, 1}, targets, {&g, 1}, options);
  }
  return r;
}

void expect_parity(const OpCase& c, const Results& got, const Results& wanted,
                   const std::string& where) {
  expect_close(got.output, wanted.output, c.tolerance, c.terms, where + " output");
  ASSERT_EQ(got.gradients.size(), wanted.gradients.size()) << where;
  for (size_t k = 0; k < got.gradients.size(); ++k)
    expect_close(got.gradients[k], wanted.gradients[k], c.tolerance, c.terms,
                 where + " gradient of input " + std::to_string(k));
}

void check_cpu(const OpCase& c, const Results& wanted, const std::string& where) {
  Results first;
  for (const int threads : {1, 2, 3}) {
    kernels::set_num_threads(threads);
    const Results got = run(c, DType::f32, Device::cpu);
    kernels::set_num_threads(0);
    if (threads == 1) {
      first = got;
      expect_parity(c, got, wanted, where + " cpu");
      continue;
    }
    const std::string with = where + " cpu with " + std::to_string(threads) + " threads";
    expect_same_bits(got.output, first.output, with + " output");
    for (size_t k = 0; k < got.gradients.size(); ++k)
      expect_same_bits(got.gradients[k], first.gradients[k], with + " gradient");
  }
  const std::vector<std::string> isas = kernels::available_isas();
  for (size_t k = 1; k < isas.size(); ++k) {
    ASSERT_TRUE(kernels::force_isa(isas[k]));
    expect_parity(c, run(c, DType::f32, Device::cpu), wanted, where + " cpu " + isas[k]);
    kernels::force_isa("");
  }
}

void check_cuda(const OpCase& c, const Results& wanted, const std::string& where) {
  if (!available(Device::cuda)) return;
  const KernelCounts before = kernel_counts();
  const Results got = run(c, DType::f32, Device::cuda);
  const KernelCounts after = kernel_counts();
  EXPECT_EQ(after.cpu, before.cpu) << where << ": CPU kernels ran for tensors on cuda";
  EXPECT_EQ(after.reference, before.reference) << where;
  EXPECT_EQ(got.output.device(), Device::cuda) << where;
  expect_parity(c, got, wanted, where + " cuda");
}

// The gradient that can be differentiated again is composed of ops where the plain one may be one
// fused kernel: both must be the same.
void check_composed_gradient(const OpCase& c, const Results& wanted, const std::string& where) {
  for (const Device device : {Device::cpu, Device::cuda})
    if (available(device))
      expect_parity(c, run(c, DType::f32, device, {.create_graph = true}), wanted,
                    where + " " + name(device) + " with create_graph");
}

void check_derivatives(const OpCase& c, const Results& wanted, const std::string& where) {
  if (c.derivatives == Derivatives::second) check_composed_gradient(c, wanted, where);
  if (c.derivatives == Derivatives::none || c.gradient_probes == 0) return;
  const GradcheckOptions options{.probes = c.gradient_probes};
  const GradcheckReport once = gradcheck(c.op, c.inputs, options);
  EXPECT_TRUE(once.ok) << where << " gradcheck: " << once.message;
  if (c.derivatives != Derivatives::second) return;
  const GradcheckReport twice = gradgradcheck(c.op, c.inputs, options);
  EXPECT_TRUE(twice.ok) << where << " gradgradcheck: " << twice.message;
}

std::vector<double> values(const Tensor& t) {
  return t.to(Device::cpu).to(DType::f64).to_vector<double>();
}

}  // namespace

void check_op(const std::string& op, const std::vector<OpCase>& cases) {
  for (OpCase c : cases) {
    const std::string where = op + "/" + c.name;
    SCOPED_TRACE(where);
    for (Tensor& t : c.inputs)
      if (t.dtype() == DType::f64) t = t.to(DType::f32).to(DType::f64);
    const Results wanted = run(c, DType::f64, Device::cpu);
    check_cpu(c, wanted, where);
    check_cuda(c, wanted, where);
    check_derivatives(c, wanted, where);
  }
}

Tensor random_tensor(Shape shape, uint64_t seed, double scale, double margin) {
  Philox random(seed, 7);
  std::vector<double> v(static_cast<size_t>(numel(shape)));
  for (double& x : v) {
    const double u = 2.0 * random.uniform() - 1.0;
    x = scale * std::copysign(margin + (1.0 - margin) * std::abs(u), u);
  }
  return Tensor::from(v, std::move(shape));
}

Tensor random_indices(Shape shape, int32_t limit, uint64_t seed) {
  Philox random(seed, 8);
  std::vector<int32_t> v(static_cast<size_t>(numel(shape)));
  for (int32_t& x : v) x = static_cast<int32_t>(random.below(static_cast<uint32_t>(limit)));
  return Tensor::from(v, std::move(shape));
}

void expect_close(const Tensor& got, const Tensor& wanted, double c, double terms,
                  const std::string& what) {
  ASSERT_EQ(got.shape(), wanted.shape()) << what;
  const std::vector<double> g = values(got), w = values(wanted);
  const double unit = c * std::numeric_limits<float>::epsilon() * std::sqrt(std::max(1.0, terms));
  size_t wrong = 0;
  for (size_t k = 0; k < g.size(); ++k) {
    const bool finite = std::isfinite(w[k]);
    const bool ok =
        finite ? std::abs(g[k] - w[k]) <= unit * std::max(1.0, std::abs(w[k]))
               : std::isnan(w[k]) == std::isnan(g[k]) && (std::isnan(w[k]) || g[k] == w[k]);
    if (ok || wrong++ >= 3) continue;
    ADD_FAILURE() << what << " element " << k << " of " << to_string(got.shape()) << ": " << g[k]
                  << ", reference " << w[k] << ", allowed " << unit * std::max(1.0, std::abs(w[k]));
  }
  EXPECT_EQ(wrong, 0u) << what;
}

void expect_same_bits(const Tensor& got, const Tensor& wanted, const std::string& what) {
  ASSERT_EQ(got.shape(), wanted.shape()) << what;
  const std::vector<float> g = got.to_vector<float>(), w = wanted.to_vector<float>();
  for (size_t k = 0; k < g.size(); ++k)
    ASSERT_EQ(std::bit_cast<uint32_t>(g[k]), std::bit_cast<uint32_t>(w[k]))
        << what << " element " << k << ": " << g[k] << " and " << w[k];
}

}  // namespace stillpoint::test
