#include <gmock/gmock.h>

#include <limits>

#include "engine/dispatch.h"
#include "engine/ops.h"
#include "tests/support/op_test.h"

#if defined(STILLPOINT_CUDA_EMULATED)
#include "kernels/emulation/emulation.h"
#endif

namespace stillpoint::test {
namespace {

using ops::Activation;
using ops::Transpose;

OpCase matmul_case(int64_t m, int64_t n, int64_t k, Transpose ta, Transpose tb) {
  const auto matrix = [](int64_t rows, int64_t columns, Transpose t, uint64_t seed) {
    return random_tensor(t == Transpose::yes ? Shape{columns, rows} : Shape{rows, columns}, seed);
  };
  return {.name = fmt::format("{}x{}x{}_{}{}", m, n, k, ta == Transpose::yes ? "t" : "n",
                              tb == Transpose::yes ? "t" : "n"),
          .inputs = {matrix(m, k, ta, 50), matrix(k, n, tb, 51)},
          .op = [=](std::span<const Tensor> in) { return ops::matmul(in[0], in[1], ta, tb); },
          .terms = static_cast<double>(std::max({m, n, k})),
          .gradient_probes = 8};
}

OpCase linear_case(const std::string& name, Shape x, int64_t out, Activation activation) {
  const int64_t in = x.back();
  const int64_t rows = in == 0 ? 1 : numel(x) / in;
  return {
      .name = name,
      .inputs = {random_tensor(std::move(x), 52), random_tensor({out, in}, 53),
                 random_tensor({out}, 54)},
      .op = [=](std::span<const Tensor> t) { return ops::linear(t[0], t[1], t[2], activation); },
      .terms = static_cast<double>(std::max({rows, in, out})),
      .gradient_probes = 8};
}

const std::vector<std::pair<std::string, Activation>> kActivations = {
    {"none", Activation::none},
    {"relu", Activation::relu},
    {"sigmoid", Activation::sigmoid},
    {"tanh", Activation::tanh}};

TEST(Gemm, MatmulAwkwardSizes) {
  std::vector<OpCase> cases;
  for (const Transpose ta : {Transpose::no, Transpose::yes})
    for (const Transpose tb : {Transpose::no, Transpose::yes})
      for (const int64_t n : kAwkwardSizes) {
        cases.push_back(matmul_case(n, 5, 9, ta, tb));
        cases.push_back(matmul_case(6, n, 3, ta, tb));
        cases.push_back(matmul_case(4, 7, n, ta, tb));
      }
  check_op("gemm", cases);
}

TEST(Gemm, LinearAwkwardSizes) {
  std::vector<OpCase> cases;
  for (const auto& [name, activation] : kActivations)
    for (const int64_t n : kAwkwardSizes) {
      const std::string size = name + "_" + std::to_string(n);
      cases.push_back(linear_case("rows_" + size, {n, 4}, 5, activation));
      cases.push_back(linear_case("in_" + size, {2, 3, n}, 4, activation));
      cases.push_back(linear_case("out_" + size, {3, 6}, n, activation));
    }
  cases.push_back(linear_case("one_row", {7}, 3, Activation::relu));
  check_op("gemm", cases);
}

// Long enough for several blocks of rows, and for a weight gradient summed in stretches of rows.
TEST(Gemm, ManyBlocks) {
  std::vector<OpCase> cases = {matmul_case(700, 9, 33, Transpose::no, Transpose::yes),
                               matmul_case(9, 33, 2500, Transpose::yes, Transpose::no),
                               linear_case("rows", {2100, 17}, 12, Activation::relu)};
  for (OpCase& c : cases) {
    c.gradient_probes = 2;
    c.derivatives = Derivatives::first;
  }
  check_op("gemm", cases);
}

TEST(Gemm, WithoutBias) {
  OpCase c = linear_case("no_bias", {5, 8}, 6, Activation::tanh);
  c.inputs.pop_back();
  c.op = [](std::span<const Tensor> t) { return ops::linear(t[0], t[1], {}, Activation::tanh); };
  check_op("gemm", {c});
}

TEST(Gemm, NotFinite) {
  const double inf = std::numeric_limits<double>::infinity();
  const double nan = std::numeric_limits<double>::quiet_NaN();
  std::vector<OpCase> cases;
  for (const auto& [name, activation] : kActivations) {
    cases.push_back(linear_case("nan_and_infinities_" + name, {4, 2}, 2, activation));
    cases.back().inputs[0] = Tensor::from<double>({nan, 1, inf, 1, -inf, 1, 1, 2}, {4, 2});
    cases.back().gradient_probes = 0;
  }
  check_op("gemm", cases);
}

#if defined(STILLPOINT_CUDA_EMULATED)
TEST(Gemm, WithoutTermsAsksNoLibrary) {
  const auto zeros = [](Shape shape) {
    return Tensor::zeros(std::move(shape), {.device = Device::cuda});
  };
  cuda::synchronize();
  const int64_t before = emulation::counters().library_calls;
  const Tensor y = ops::matmul(zeros({2, 0}), zeros({0, 3}));
  EXPECT_THAT(y.to_vector<float>(), testing::ElementsAre(0, 0, 0, 0, 0, 0));
  EXPECT_EQ(emulation::counters().library_calls, before);
}
#endif

TEST(Gemm, ByHand) {
  const Tensor a = Tensor::from<float>({1, 2, 3, 4, 5, 6}, {2, 3});
  const Tensor b = Tensor::from<float>({1, 0, 0, 1, 1, 1}, {3, 2});
  const auto values = [](const Tensor& t) { return t.to_vector<float>(); };
  EXPECT_THAT(values(ops::matmul(a, b)), testing::ElementsAre(4, 5, 10, 11));
  EXPECT_THAT(values(ops::matmul(a, a, Transpose::no, Transpose::yes)),
              testing::ElementsAre(14, 32, 32, 77));
  const Tensor w = Tensor::from<float>({1, 1, 1, -1, 0, 0}, {2, 3});
  const Tensor bias = Tensor::from<float>({0.5, 2}, {2});
  EXPECT_THAT(values(ops::linear(a, w, bias, Activation::relu)),
              testing::ElementsAre(6.5, 1, 15.5, 0));
}

TEST(Gemm, GradientsOnlyWhereWanted) {
  Tensor w = Tensor::full({3, 4}, 0.5);
  w.set_requires_grad();
  const Tensor x = Tensor::full({5, 4}, 1.0);
  const KernelCounts before = kernel_counts();
  const Tensor y = ops::linear(x, w, {}, Activation::none);
  (void)vjp(y, w, Tensor::full({5, 3}, 1.0));
  EXPECT_EQ(kernel_counts().cpu - before.cpu, 2);  // one product forward, one backward
}

TEST(Gemm, RefusesWrongInputs) {
  const auto zeros = [](Shape s) { return Tensor::zeros(std::move(s)); };
  EXPECT_THROW(ops::matmul(zeros({2, 3}), zeros({2, 3})), ShapeError);
  EXPECT_THROW(ops::matmul(zeros({2, 3, 1}), zeros({3, 2})), ShapeError);
  EXPECT_THROW(ops::matmul(zeros({2, 3}), Tensor::zeros({3, 2}, {.dtype = DType::f64})), TypeError);
  EXPECT_THROW(ops::linear(zeros({2, 3}), zeros({4, 2})), ShapeError);
  EXPECT_THROW(ops::linear(zeros({}), zeros({4, 2})), ShapeError);
  EXPECT_THROW(ops::linear(zeros({2, 3}), zeros({4, 3}), zeros({3})), ShapeError);
  EXPECT_THROW(ops::linear(zeros({2, 3}), Tensor()), TypeError);
}

}  // namespace
}  // namespace stillpoint::test
