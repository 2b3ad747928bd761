#include <gmock/gmock.h>

#include <cmath>
#include <limits>

#include "engine/memory.h"
#include "engine/ops.h"
#include "tests/support/op_test.h"

namespace stillpoint::test {
namespace {

using ops::AttentionMask;
using ops::AttentionOptions;

const double kInf = std::numeric_limits<double>::infinity();
const double kNan = std::numeric_limits<double>::quiet_NaN();

struct Sizes {
  int64_t batch = 2, queries = 5, keys = 7, heads = 2, width = 4;
};

OpCase make_case(const std::string& name, Sizes s, AttentionMask mask = AttentionMask::none,
                 const Tensor& key_mask = {}) {
  const Shape queries{s.batch, s.queries, s.heads * s.width};
  const Shape keys{s.batch, s.keys, s.heads * s.width};
  return {
      .name = name,
      .inputs = {random_tensor(queries, 1, 2), random_tensor(keys, 2, 2), random_tensor(keys, 3)},
      .op =
          [=, heads = s.heads](std::span<const Tensor> x) {
            return ops::attention(x[0], x[1], x[2],
                                  {.heads = heads,
                                   .mask = mask,
                                   .key_mask = key_mask ? key_mask.to(x[0].device()) : Tensor()});
          },
      .derivatives = Derivatives::first,
      .terms = static_cast<double>(s.keys + s.queries + s.width)};
}

// Every third key is masked, and all of the last sample's.
Tensor some_masked(int64_t batch, int64_t keys) {
  std::vector<int32_t> mask;
  for (int64_t b = 0; b < batch; ++b)
    for (int64_t j = 0; j < keys; ++j) mask.push_back(j % 3 != 0 && b + 1 < batch ? 1 : 0);
  return Tensor::from(mask, {batch, keys});
}

TEST(Attention, AwkwardSizes) {
  std::vector<OpCase> cases;
  for (const int64_t n : kAwkwardSizes) {
    cases.push_back(make_case("queries_" + std::to_string(n), {.queries = n}));
    cases.push_back(make_case("keys_" + std::to_string(n), {.keys = n}));
    cases.push_back(
        make_case("tokens_" + std::to_string(n), {.batch = 1, .queries = n, .keys = n}));
    if (n > 0 && n <= 33) cases.push_back(make_case("width_" + std::to_string(n), {.width = n}));
    if (n <= 33) cases.push_back(make_case("batch_" + std::to_string(n), {.batch = n}));
  }
  for (const int64_t width : {63, 64, 65, 127, 128})
    cases.push_back(make_case("width_" + std::to_string(width), {.queries = 33, .width = width}));
  cases.push_back(make_case("heads_7", {.heads = 7}));
  check_op("attention", cases);
}

TEST(Attention, Masks) {
  std::vector<OpCase> cases;
  for (const int64_t n : {1, 7, 64, 65, 130, 200})
    for (const AttentionMask mask : {AttentionMask::none, AttentionMask::causal}) {
      const std::string name =
          std::to_string(n) + (mask == AttentionMask::causal ? "_causal" : "_all");
      const Sizes sizes{.queries = n, .keys = n};
      cases.push_back(make_case(name, sizes, mask));
      cases.push_back(make_case(name + "_some_masked", sizes, mask, some_masked(2, n)));
    }
  check_op("attention", cases);
}

// As many keys as make several panels, whose shares in dq are added in order.
TEST(Attention, ManyKeys) {
  OpCase many =
      make_case("panels", {.batch = 1, .queries = 70, .keys = 1100, .heads = 1, .width = 8});
  many.gradient_probes = 6;
  OpCase causal =
      make_case("panels_causal", {.batch = 1, .queries = 600, .keys = 600, .heads = 1, .width = 8},
                AttentionMask::causal);
  causal.gradient_probes = 6;
  check_op("attention", {many, causal});
}

// Scores grow along the keys by 40 a block, so that every block rescales what came before.
TEST(Attention, LargestScoreComesLast) {
  OpCase c = make_case("rising", {.batch = 1, .queries = 3, .keys = 600, .heads = 1, .width = 1});
  std::vector<double> q(3, 1.0), k;
  for (int j = 0; j < 600; ++j) k.push_back(0.3 * j);
  c.inputs[0] = Tensor::from(q, {1, 3, 1});
  c.inputs[1] = Tensor::from(k, {1, 600, 1});
  check_op("attention", {c});
}

TEST(Attention, NothingToSeeGivesZero) {
  for (const Device device : {Device::cpu, Device::cuda}) {
    if (!available(device)) continue;
    std::vector<Tensor> x;
    for (uint64_t k = 0; k < 3; ++k) {
      x.push_back(random_tensor({1, 3, 2}, k).to(DType::f32).to(device));
      x.back().set_requires_grad();
    }
    const Tensor nobody = Tensor::zeros({1, 3}, {.dtype = DType::i32, .device = device});
    const Tensor out = ops::attention(x[0], x[1], x[2], {.key_mask = nobody});
    EXPECT_THAT(out.to_vector<float>(), testing::Each(0.f));
    const Tensor g = Tensor::full(out.shape(), 1.0, out.options());
    for (const Tensor& d : vjp({&out, 1}, x, {&g, 1}))
      EXPECT_THAT(d.to_vector<float>(), testing::Each(0.f));
  }
}

// Query 0 of sample 0 is NaN, key 1 holds an infinity; sample 1's NaN and infinities are masked.
TEST(Attention, NotFinite) {
  const Tensor q = Tensor::from<double>({kNan, 1, -1, 2}, {2, 2, 1});
  const Tensor k = Tensor::from<double>({1, kInf, 2, 1, kNan, -kInf}, {2, 3, 1});
  const Tensor v = Tensor::from<double>({1, 2, 3, 4, kInf, kNan}, {2, 3, 1});
  const Tensor mask = Tensor::from<int32_t>({1, 1, 1, 1, 0, 0}, {2, 3});
  const auto op = [mask](std::span<const Tensor> x) {
    return ops::attention(x[0], x[1], x[2], {.key_mask = mask.to(x[0].device())});
  };
  check_op("attention", {{.name = "nan_and_infinities",
                          .inputs = {q, k, v},
                          .op = op,
                          .derivatives = Derivatives::first,
                          .gradient_probes = 0}});
}

TEST(Attention, ByHand) {
  // Scores 0 and log 3 (width 1): weights 1/4 and 3/4.
  const Tensor q = Tensor::from<float>({1}, {1, 1, 1});
  const Tensor k = Tensor::from<float>({0, std::log(3.f)}, {1, 2, 1});
  const Tensor v = Tensor::from<float>({8, 4}, {1, 2, 1});
  EXPECT_THAT(ops::attention(q, k, v).to_vector<float>(),
              testing::ElementsAre(testing::FloatEq(5.f)));
}

// 4,096 tokens: an array of all pairs would take 64 MiB a head.
TEST(Attention, MemoryIsLinear) {
  const auto peak = [](int64_t tokens) {
    Tensor x = Tensor::full({1, tokens, 8}, 0.5);
    x.set_requires_grad();
    reset_peak_memory(Device::cpu);
    const int64_t before = memory_stats(Device::cpu).peak;
    const Tensor y = ops::attention(x, x, x);
    (void)vjp(y, x, Tensor::full(y.shape(), 1.0));
    return memory_stats(Device::cpu).peak - before;
  };
  const int64_t small = peak(1024), large = peak(4096);
  EXPECT_LE(large, 4 * small + 65536);
}

TEST(Attention, RefusesWrongInputs) {
  const Tensor q = Tensor::zeros({2, 3, 4}), k = Tensor::zeros({2, 5, 4});
  EXPECT_THROW(ops::attention(Tensor::zeros({3, 4}), k, k), ShapeError);
  EXPECT_THROW(ops::attention(q, Tensor::zeros({1, 5, 4}), k), ShapeError);
  EXPECT_THROW(ops::attention(q, k, Tensor::zeros({2, 4, 4})), ShapeError);
  EXPECT_THROW(ops::attention(q, k, k, {.heads = 3}), OptionError);
  EXPECT_THROW(ops::attention(q, k, k, {.heads = 0}), OptionError);
  EXPECT_THROW(ops::attention(q, k, k, {.mask = AttentionMask::causal}), ShapeError);
  EXPECT_THROW(ops::attention(q, k, Tensor::zeros({2, 5, 4}, {.dtype = DType::f64})), TypeError);
  EXPECT_THROW(ops::attention(q, k, k, {.key_mask = Tensor::zeros({2, 5})}), TypeError);
  const Tensor narrow = Tensor::zeros({2, 4}, {.dtype = DType::i32});
  EXPECT_THROW(ops::attention(q, k, k, {.key_mask = narrow}), ShapeError);
  const Tensor wide = Tensor::zeros({1, 2, 129});
  EXPECT_THROW(ops::attention(wide, wide, wide), ShapeError);
}

TEST(Attention, HasNoSecondDerivative) {
  Tensor x = Tensor::full({1, 2, 1}, 0.5);
  x.set_requires_grad();
  const Tensor y = ops::sum(ops::attention(x, x, x));
  const Tensor one = Tensor::full({}, 1.0);
  const Tensor dx = vjp(y, x, one, {.create_graph = true});
  EXPECT_THROW(vjp(ops::sum(dx), x, one), GradientError);
}

}  // namespace
}  // namespace stillpoint::test
