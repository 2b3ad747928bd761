#include <gmock/gmock.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <numeric>

#include "engine/ops.h"
#include "kernels/common/parallel.h"
#include "kernels/common/simd.h"
#include "tests/support/op_test.h"

namespace stillpoint::test {
namespace {

using testing::ElementsAre;

constexpr float kInf = std::numeric_limits<float>::infinity();

// All numbers of a row differ by far more than the step of the finite differences.
Tensor distinct(Shape shape) {
  Tensor x = random_tensor(std::move(shape), 6);
  for (int64_t k = 0; k < x.numel(); ++k)
    x.mutable_data<double>()[k] = std::remainder(static_cast<double>(k) * 0.61803, 1.0);
  return x;
}

OpCase make_case(const std::string& name, Tensor x, int64_t k) {
  return {.name = name, .inputs = {std::move(x)}, .op = [k](std::span<const Tensor> in) {
            return ops::topk(in[0], k).values;
          }};
}

TEST(Topk, AwkwardSizes) {
  std::vector<OpCase> cases;
  for (const int64_t n : kAwkwardSizes) {
    const std::string size = std::to_string(n);
    cases.push_back(make_case("rows_" + size, distinct({n, 5}), 2));
    if (n == 0) continue;
    cases.push_back(make_case("largest_of_" + size, distinct({n}), 1));
    cases.push_back(make_case("half_of_" + size, distinct({2, 1, n}), (n + 1) / 2));
    cases.push_back(make_case("all_of_" + size, distinct({3, n}), n));
  }
  cases.push_back(make_case("long_rows", distinct({2, 10007}), 100));
  cases.back().gradient_probes = 0;  // numbers that lie closer than their step
  check_op("topk", cases);
}

// Which numbers of a row are wanted, by a sort that is told what is larger.
std::vector<int32_t> wanted_indices(const float* row, int64_t n, int64_t k) {
  std::vector<int32_t> all(static_cast<size_t>(n));
  std::iota(all.begin(), all.end(), 0);
  std::stable_sort(all.begin(), all.end(), [row](int32_t a, int32_t b) {
    return std::isnan(row[a]) ? !std::isnan(row[b]) : row[a] > row[b];
  });
  all.resize(static_cast<size_t>(k));
  return all;
}

// Compares indices, and values bit for bit.
void expect_largest(const ops::Topk& got, const Tensor& x, int64_t k, const std::string& where) {
  const std::vector<float> numbers = x.to_vector<float>();
  const std::vector<float> values = got.values.to(Device::cpu).to(DType::f32).to_vector<float>();
  const std::vector<int32_t> indices = got.indices.to_vector<int32_t>();
  const int64_t n = x.dim(-1), rows = x.numel() / n;
  ASSERT_EQ(got.indices.shape(), (Shape{rows, k})) << where;
  ASSERT_EQ(got.values.shape(), (Shape{rows, k})) << where;
  for (int64_t r = 0; r < rows; ++r) {
    const float* row = numbers.data() + r * n;
    const std::vector<int32_t> wanted = wanted_indices(row, n, k);
    const auto at = indices.begin() + r * k;
    ASSERT_EQ(std::vector<int32_t>(at, at + k), wanted) << where << " row " << r;
    for (int64_t t = 0; t < k; ++t)
      ASSERT_EQ(std::bit_cast<uint32_t>(values[static_cast<size_t>(r * k + t)]),
                std::bit_cast<uint32_t>(row[wanted[static_cast<size_t>(t)]]))
          << where << " row " << r << " value " << t;
  }
}

// On every backend and instruction set, with one thread and with three.
void check_largest(const Tensor& x, int64_t k, const std::string& name) {
  const std::string what = name + ", " + std::to_string(k) + " of " + to_string(x.shape());
  expect_largest(ops::topk(x.to(DType::f64), k), x, k, what + " reference");
  for (const std::string& isa : kernels::available_isas())
    for (const int threads : {1, 3}) {
      ASSERT_TRUE(kernels::force_isa(isa));
      kernels::set_num_threads(threads);
      expect_largest(ops::topk(x, k), x, k, what + " " + isa);
      kernels::set_num_threads(0);
      kernels::force_isa("");
    }
  if (available(Device::cuda))
    expect_largest(ops::topk(x.to(Device::cuda), k), x, k, what + " cuda");
}

Tensor rows_of_numbers(int64_t rows, int64_t n, const std::function<float(int64_t j)>& number) {
  std::vector<float> v;
  for (int64_t e = 0; e < rows * n; ++e) v.push_back(number(e));
  return Tensor::from(v, {rows, n});
}

const std::vector<int64_t> kCounts = {1, 2, 19, 31, 32, 33, 63, 64, 65, 129, 256, 257};

TEST(Topk, Order) {
  for (const int64_t n : {1, 2, 33, 257}) {
    const Tensor random = random_tensor({5, n}, 1).to(DType::f32);
    const float* x = random.data<float>();
    const auto place = [n](int64_t e) { return static_cast<float>(e % n); };
    for (const int64_t k : kCounts) {
      if (k > n) continue;
      check_largest(random, k, "random");
      check_largest(rows_of_numbers(2, n, place), k, "ascending");
      check_largest(rows_of_numbers(2, n, [&](int64_t e) { return -place(e); }), k, "descending");
      // Of equals the first: many of few numbers, all the same, and zeros of both signs.
      const auto level = [&](int64_t e) { return std::round(3 * x[e]); };
      check_largest(rows_of_numbers(5, n, level), k, "levels");
      check_largest(rows_of_numbers(1, n, [](int64_t) { return -1.5f; }), k, "equal");
      check_largest(rows_of_numbers(5, n, [&](int64_t e) { return std::copysign(0.f, x[e]); }), k,
                    "zeros");
    }
  }
}

TEST(Topk, NotFinite) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> numbers = {nan, 1.f, kInf, -kInf, -nan, 0.f, -2.f};
  for (const int64_t n : {7, 33, 257}) {
    const Tensor random = random_tensor({4, n}, 2).to(DType::f32);
    const float* x = random.data<float>();
    const auto pick = [&](int64_t e) { return static_cast<size_t>(std::abs(x[e]) * 1e4f); };
    for (const int64_t k : kCounts) {
      if (k > n) continue;
      const auto any = [&](int64_t e) { return numbers[pick(e) % 7]; };
      check_largest(rows_of_numbers(4, n, any), k, "any");
      const auto few = [&](int64_t e) { return pick(e) % 50 == 0 ? -nan : x[e]; };
      check_largest(rows_of_numbers(4, n, few), k, "few NaN");
      check_largest(rows_of_numbers(1, n, [&](int64_t e) { return e % 2 == 0 ? nan : -nan; }), k,
                    "all NaN");
      check_largest(rows_of_numbers(1, n, [&](int64_t) { return -kInf; }), k, "all -infinity");
    }
  }
  OpCase c = make_case("gradient",
                       Tensor::from<double>({1, nan, 2, -kInf, kInf, 3, nan, -kInf}, {2, 4}), 2);
  c.gradient_probes = 0;
  check_op("topk", {c});
}

TEST(Topk, LongRows) {
  const Tensor x = random_tensor({3, 16384}, 3).to(DType::f32);
  for (const int64_t k : {1, 64, 200}) check_largest(x, k, "random");
  const auto ascending = [](int64_t e) { return static_cast<float>(e); };
  check_largest(rows_of_numbers(1, 16384, ascending), 64, "ascending");
}

TEST(Topk, ByHand) {
  for (const Device device : {Device::cpu, Device::cuda}) {
    if (!available(device)) continue;
    Tensor x = Tensor::from<float>({3, 1, 3, 2, -1, 0, -2, 5}, {2, 4}).to(device);
    x.set_requires_grad();
    const ops::Topk top = ops::topk(x, 3);
    EXPECT_THAT(top.values.to_vector<float>(), ElementsAre(3, 3, 2, 5, 0, -1));
    EXPECT_THAT(top.indices.to_vector<int32_t>(), ElementsAre(0, 2, 3, 3, 1, 0));
    const Tensor g = Tensor::from<float>({1, 2, 3, 4, 5, 6}, {2, 3}).to(device);
    EXPECT_THAT(vjp(top.values, x, g).to_vector<float>(), ElementsAre(1, 0, 2, 3, 6, 5, 0, 4));
    EXPECT_FALSE(top.indices.requires_grad());
  }
}

// f = sum of the cubes of the two largest, its gradient and the product of its Hessian with u.
TEST(Topk, DifferentiatesTwice) {
  for (const Device device : {Device::cpu, Device::cuda}) {
    if (!available(device)) continue;
    Tensor x = Tensor::from<float>({1, 4, 2, 3}, {4}).to(device);
    x.set_requires_grad();
    const Tensor v = ops::topk(x, 2).values;
    const Tensor f = ops::sum(ops::mul(v, ops::square(v)));
    const Tensor df = vjp(f, x, Tensor::full({}, 1, x.options()), {.create_graph = true});
    EXPECT_THAT(df.to_vector<float>(), ElementsAre(0, 48, 0, 27));
    const Tensor u = Tensor::from<float>({1, 2, 3, 4}, {4}).to(device);
    EXPECT_THAT(vjp(df, x, u).to_vector<float>(), ElementsAre(0, 48, 0, 72));
  }
}

TEST(Topk, TakesEmptyBatches) {
  for (const Device device : {Device::cpu, Device::cuda}) {
    if (!available(device)) continue;
    Tensor x = Tensor::zeros({2, 0, 5}, {DType::f32, device});
    x.set_requires_grad();
    const ops::Topk top = ops::topk(x, 5);
    EXPECT_EQ(top.values.shape(), (Shape{2, 0, 5}));
    EXPECT_EQ(top.indices.shape(), (Shape{2, 0, 5}));
    EXPECT_EQ(vjp(top.values, x, top.values.detach()).shape(), x.shape());
  }
}

TEST(Topk, RefusesWrongInputs) {
  const Tensor x = Tensor::zeros({2, 3});
  EXPECT_THROW(ops::topk(x, 0), OptionError);
  EXPECT_THROW(ops::topk(x, -1), OptionError);
  EXPECT_THROW(ops::topk(x, 4), OptionError);
  EXPECT_THROW(ops::topk(Tensor::zeros({2, 0}), 1), OptionError);
  EXPECT_THROW(ops::topk(Tensor::zeros({}), 1), ShapeError);
  EXPECT_THROW(ops::topk(Tensor::zeros({3}, {.dtype = DType::i32}), 1), TypeError);
  const int64_t most = std::numeric_limits<int32_t>::max();
  EXPECT_NO_THROW(ops::topk(Tensor::empty({0, most}), 1));
  EXPECT_THROW(ops::topk(Tensor::empty({0, most + 1}), 1), ShapeError);
}

}  // namespace
}  // namespace stillpoint::test
