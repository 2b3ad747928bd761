// refine_factor with products in bfloat16.
#include <gmock/gmock.h>

#include <cmath>
#include <limits>

#include "engine/ops.h"
#include "kernels/common/parallel.h"
#include "kernels/common/simd.h"
#include "kernels/gemm/bf16.h"
#include "tests/ops/refine_factor_problem.h"
#include "tests/support/op_test.h"

namespace stillpoint::test {
namespace {

using namespace refine_factor;
using ops::Precision;
using testing::HasSubstr;
using testing::ThrowsMessage;

constexpr double kRoundoff = 0x1p-9;  // of bfloat16

const char* const kResults[] = {"states", "h",           "message",    "message_bias",
                                "factor", "factor_bias", "collect",    "own",
                                "clue",   "update",      "update_bias"};

// The states and the gradients of h and of all weights along a fixed cotangent.
std::vector<Tensor> results_of(const Problem& p, const std::vector<Tensor>& inputs, DType dtype) {
  std::vector<Tensor> x;
  for (const Tensor& t : inputs) {
    x.push_back(t.dtype() == DType::i32 ? t : t.to(DType::f32).to(dtype).clone());
    if (t.dtype() != DType::i32) x.back().set_requires_grad();
  }
  const Tensor y = fused(x, p, factors_of(p));
  backward(ops::sum(ops::mul(y, random_tensor(y.shape(), 12).to(dtype))));
  std::vector<Tensor> results = {y.detach()};
  for (size_t k = 0; k < 10; ++k) results.push_back(x[k].grad());
  return results;
}

std::vector<Tensor> results_of(Problem p, Precision precision) {
  p.precision = precision;
  return results_of(p, inputs_of(p), DType::f32);
}

// |got - wanted| / |wanted|, or |got| where nothing is wanted.
double relative_error(const Tensor& got, const Tensor& wanted) {
  const auto g = got.to(DType::f64).to_vector<double>(),
             w = wanted.to(DType::f64).to_vector<double>();
  double error = 0, size = 0;
  for (size_t k = 0; k < g.size(); ++k) {
    error += (g[k] - w[k]) * (g[k] - w[k]);
    size += w[k] * w[k];
  }
  return std::sqrt(size > 0 ? error / size : error);
}

// Not of one channel, whose norm lets next to no gradient through.
std::vector<Problem> problems() {
  std::vector<Problem> all;
  for (const int64_t n : {3, 7, 15, 16, 17, 31, 32, 33, 48}) {
    all.push_back({.channels = n, .hidden = 2 * n});
  }
  all.push_back({.hidden = 9});
  all.push_back({.variables = 150});
  all.push_back({.variables = 64, .channels = 16, .hidden = 64});
  all.push_back({.degree = 0});
  all.push_back({.types = {0, 4, 4, 9}});
  all.push_back({.boards = 70, .variables = 5, .channels = 3, .hidden = 2});
  all.push_back(kSudoku);
  return all;
}

std::string name_of(const Problem& p) {
  return std::to_string(p.boards) + " boards, " + std::to_string(p.variables) + " variables, " +
         std::to_string(p.channels) + " channels, " + std::to_string(p.hidden) + " hidden";
}

// The reference rounds the same operands and sums in float64. Where a number lies next to the
// middle between two of bfloat16, the error of float32 decides which of them it becomes; then
// results differ by a share of the roundoff, else by those of float32.
void expect_near_reference(const std::string& where, Problem p) {
  p.precision = Precision::bf16;
  const std::vector<Tensor> x = inputs_of(p);
  const auto wanted = results_of(p, x, DType::f64);
  const auto got = results_of(p, x, DType::f32);
  for (size_t k = 0; k < got.size(); ++k)
    EXPECT_LT(relative_error(got[k], wanted[k]), kRoundoff / 4)
        << where << name_of(p) << ": " << kResults[k];
}

TEST(RefineFactorBf16, IsNearTheReference) {
  for (const Problem& p : problems()) expect_near_reference("", p);
  for (const std::string& isa : kernels::available_isas()) {
    ASSERT_TRUE(kernels::force_isa(isa));
    expect_near_reference(isa + " ", {.variables = 150, .channels = 17, .hidden = 34});
    kernels::force_isa("");
  }
}

// It rounds: were the products those of f32, the test above would prove nothing.
TEST(RefineFactorBf16, IsNotFloat32) {
  const auto bf16 = results_of(kSudoku, Precision::bf16);
  const auto f32 = results_of(kSudoku, Precision::f32);
  for (size_t k = 0; k < bf16.size(); ++k)
    EXPECT_GT(relative_error(bf16[k], f32[k]), kRoundoff / 4) << kResults[k];
}

TEST(RefineFactorBf16, SameBitsForAnyNumberOfThreads) {
  for (const Problem& p : problems()) {
    kernels::set_num_threads(1);
    const auto wanted = results_of(p, Precision::bf16);
    for (const int threads : {2, 3}) {
      kernels::set_num_threads(threads);
      const auto got = results_of(p, Precision::bf16);
      for (size_t k = 0; k < got.size(); ++k)
        expect_same_bits(got[k], wanted[k], name_of(p) + ": " + kResults[k]);
    }
    kernels::set_num_threads(0);
  }
}

TEST(RefineFactorBf16, TheLastStateAlone) {
  Problem p{.variables = 100, .steps = 5, .precision = Precision::bf16};
  std::vector<Tensor> x = inputs_of(p);
  for (Tensor& t : x) t = t.dtype() == DType::i32 ? t : t.to(DType::f32);
  const Graph factors = factors_of(p);
  const Tensor all = fused(x, p, factors);
  expect_same_bits(fused(x, p, factors, ops::States::last),
                   ops::reshape(ops::rows(all, p.steps - 1, 1), x[0].shape()), "last");
}

TEST(RefineFactorBf16, NaNStaysOnItsBoard) {
  Problem p{.boards = 3, .variables = 40, .precision = Precision::bf16};
  std::vector<Tensor> x = inputs_of(p);
  std::vector<double> h = x[0].to_vector<double>();
  const size_t board = h.size() / 3;
  h[board + 3] = std::numeric_limits<double>::quiet_NaN();
  x[0] = Tensor::from(h, x[0].shape());
  kernels::set_num_threads(1);  // boards then share their scratch memory
  const auto got = results_of(p, x, DType::f32);
  kernels::set_num_threads(0);
  for (const Tensor& t : {got[0], got[1]}) {
    const auto values = t.to_vector<float>();
    const size_t size = values.size() / board;  // boards of all steps
    bool spread = false;
    for (size_t b = 0; b < size; ++b)
      for (size_t k = 0; k < board; ++k) {
        const bool nan = std::isnan(values[b * board + k]);
        spread |= nan;
        EXPECT_FALSE(nan && b % 3 != 1) << "board " << b << " element " << k;
      }
    EXPECT_TRUE(spread);
  }
}

TEST(RefineFactorBf16, IsOfTheCpu) {
  if (!available(Device::cuda)) GTEST_SKIP() << "no CUDA device";
  Problem p{.precision = Precision::bf16};
  std::vector<Tensor> x = inputs_of(p);
  for (Tensor& t : x) t = (t.dtype() == DType::i32 ? t : t.to(DType::f32)).to(Device::cuda);
  EXPECT_THAT([&] { fused(x, p, factors_of(p)); },
              ThrowsMessage<OptionError>(HasSubstr("bf16 for tensors on cuda")));
}

}  // namespace
}  // namespace stillpoint::test
