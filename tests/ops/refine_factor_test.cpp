#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "engine/ops.h"
#include "engine/parameters.h"
#include "kernels/common/parallel.h"
#include "tests/ops/refine_factor_problem.h"
#include "tests/support/graphs.h"
#include "tests/support/op_test.h"

namespace stillpoint::test {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

using namespace refine_factor;

// The formula from single ops.
Tensor composed(std::span<const Tensor> x, const Problem& p, const Graph& graph) {
  const ops::FactorWeights w = weights_of(x);
  const Graph factors = graph.to(x[0].device());
  const auto types = static_cast<int64_t>(p.types.size()) - 1;
  std::vector<double> of_type;
  for (size_t t = 0; t + 1 < p.types.size(); ++t) {
    for (int32_t f = p.types[t]; f < p.types[t + 1]; ++f)
      for (int64_t k = 0; k < types * p.channels; ++k)
        of_type.push_back(k / p.channels == static_cast<int64_t>(t) ? 1 : 0);
  }
  const Tensor mask = Tensor::from(of_type, {p.types.back(), types * p.channels})
                          .to(x[0].dtype())
                          .to(x[0].device());
  Tensor h = x[0];
  std::vector<Tensor> states;
  for (int64_t t = 0; t < p.steps; ++t) {
    const Tensor m = ops::linear(h, w.message, w.message_bias, ops::Activation::relu);
    const Tensor factor =
        ops::linear(ops::factor_sum(m, factors), w.factor, w.factor_bias, ops::Activation::relu);
    const Tensor rules =
        ops::factor_broadcast(ops::linear(ops::mul(factor, mask), w.collect), factors);
    const Tensor own = ops::linear(ops::concat({h, m}), w.own);
    const Tensor u = ops::relu(ops::add(ops::add(own, ops::embedding(w.clue, x[10])), rules));
    h = ops::rms_norm(ops::linear(u, w.update, w.update_bias), {}, h);
    states.push_back(ops::reshape(h, {1, h.numel()}));
  }
  return ops::reshape(ops::concat(states), {p.steps, p.boards, p.variables, p.channels});
}

// In a large problem some value lies next to a kink whatever the seed, and finite differences step
// over it: there the gradient is held to that of the composed form.
constexpr int64_t kMostForProbes = 200;

OpCase make_case(const std::string& name, const Problem& p) {
  return {.name = name,
          .inputs = inputs_of(p),
          .op = [p, factors =
                        factors_of(p)](std::span<const Tensor> x) { return fused(x, p, factors); },
          .derivatives = Derivatives::first,
          .terms = static_cast<double>(p.boards * p.variables * p.steps + p.channels),
          .gradient_probes = p.variables * p.channels > kMostForProbes ? 0 : 24};
}

TEST(RefineFactor, AwkwardSizes) {
  std::vector<OpCase> cases;
  for (const int64_t n : {1, 7, 8, 31, 32, 33}) {
    Problem p;
    p.channels = n;
    p.hidden = 2 * n;
    cases.push_back(make_case("channels_" + std::to_string(n), p));
  }
  cases.push_back(make_case("no_boards", {.boards = 0}));
  cases.push_back(make_case("one_step", {.steps = 1}));
  cases.push_back(make_case("five_steps", {.steps = 5}));
  cases.push_back(make_case("odd_hidden", {.hidden = 9}));
  cases.push_back(make_case("several_blocks_of_rows", {.variables = 150}));
  cases.push_back(make_case("any_number_of_members", {.degree = 0}));
  cases.push_back(make_case("one_type", {.types = {0, 9}}));
  cases.push_back(make_case("an_empty_type", {.types = {0, 4, 4, 9}}));
  cases.push_back(make_case("one_kind", {.kinds = 1}));
  Problem many{.boards = 70, .variables = 3, .channels = 3, .hidden = 2};  // boards share a group
  cases.push_back(make_case("many_boards", many));
  check_op("refine_factor", cases);
}

// C = 32 and hidden = 64 have kernels of their own on CUDA, where a warp takes 32 rows at a time.
TEST(RefineFactor, TheSizesOfSymbolNet) {
  Problem p{.boards = 6, .channels = 32, .hidden = 64, .kinds = 5};
  std::vector<OpCase> cases;
  for (const int64_t variables : {1, 32, 33, 150}) {
    p.variables = variables;
    cases.push_back(make_case("variables_" + std::to_string(variables), p));
  }
  p.degree = 0;
  cases.push_back(make_case("any_number_of_members", p));
  p.types = {0, 40, 40, 41, 120};
  cases.push_back(make_case("four_types", p));
  check_op("refine_factor", cases);
}

// On CUDA a tile of so many columns does not fit into shared memory.
TEST(RefineFactor, WideRows) {
  check_op("refine_factor",
           {make_case("hidden_1000", {.boards = 1, .channels = 2, .hidden = 1000, .steps = 1})});
}

// What is read in fours where rows start on 16 bytes gives the same bits where they do not.
TEST(RefineFactor, RowsThatStartAnywhere) {
  for (const int64_t c : {32, 36}) {
    const Problem p{.boards = 5, .variables = 70, .channels = c, .hidden = 2 * c};
    const Graph factors = factors_of(p);
    for (const Device device : {Device::cpu, Device::cuda}) {
      if (!available(device)) continue;
      std::vector<Tensor> results[2];
      for (const int64_t offset : {0, 1}) {
        std::vector<Tensor> x = inputs_of(p);
        for (Tensor& t : x) t = (t.dtype() == DType::i32 ? t : t.to(DType::f32)).to(device);
        std::vector<float> moved(static_cast<size_t>(offset), 0.f);
        const auto h = x[0].to(Device::cpu).to_vector<float>();
        moved.insert(moved.end(), h.begin(), h.end());
        x[0] = Tensor::from(moved, {x[0].numel() + offset}).to(device).alias(x[0].shape(), offset);
        for (size_t k = 0; k < 10; ++k) x[k].set_requires_grad();
        const Tensor y = fused(x, p, factors);
        backward(ops::sum(ops::square(y)));
        results[offset] = {y.detach()};
        for (size_t k = 0; k < 10; ++k) results[offset].push_back(x[k].grad());
      }
      for (size_t k = 0; k < results[0].size(); ++k)
        expect_same_bits(results[1][k], results[0][k],
                         std::string(name(device)) + ", result " + std::to_string(k));
    }
  }
}

TEST(RefineFactor, ASudoku) { check_op("refine_factor", {make_case("four_by_four", kSudoku)}); }

// Values and every gradient, in float64 where only the order of sums differs.
TEST(RefineFactor, IsTheComposedForm) {
  const Problem problems[] = {
      kSudoku,
      {.boards = 3, .variables = 30, .channels = 6, .hidden = 11, .steps = 4},
      {.channels = 33, .hidden = 66},
      {.variables = 150, .degree = 0}};
  for (const Problem& p : problems) {
    const Graph factors = factors_of(p);
    std::vector<Tensor> results[2];
    for (const bool whole : {false, true}) {
      std::vector<Tensor> x = inputs_of(p);
      for (Tensor& t : x)
        if (t.dtype() != DType::i32) t.set_requires_grad();
      const Tensor y = whole ? fused(x, p, factors) : composed(x, p, factors);
      backward(ops::sum(ops::mul(y, random_tensor(y.shape(), 12))));
      results[whole] = {y.detach()};
      for (size_t k = 0; k < 10; ++k) results[whole].push_back(x[k].grad());
    }
    for (size_t k = 0; k < results[0].size(); ++k) {
      const auto wanted = results[0][k].to_vector<double>();
      const auto got = results[1][k].to_vector<double>();
      ASSERT_EQ(wanted.size(), got.size());
      for (size_t e = 0; e < wanted.size(); ++e)
        ASSERT_NEAR(got[e], wanted[e], 1e-10 * std::max(1.0, std::abs(wanted[e])))
            << p.variables << " variables, result " << k << ", element " << e;
    }
  }
}

TEST(RefineFactor, TheLastStateAlone) {
  const Problem p{.steps = 5};
  const Graph factors = factors_of(p);
  std::vector<Tensor> x = inputs_of(p);
  for (Tensor& t : x) t = t.dtype() == DType::i32 ? t : t.to(DType::f32);
  const Tensor all = fused(x, p, factors);
  const Tensor wanted = ops::reshape(ops::rows(all, p.steps - 1, 1), x[0].shape());
  expect_same_bits(fused(x, p, factors, ops::States::last), wanted, "without a gradient");
  x[0].set_requires_grad();
  const Tensor recorded = fused(x, p, factors, ops::States::last);
  expect_same_bits(recorded.detach(), wanted, "with a gradient");
  backward(ops::sum(ops::square(recorded)));
  const Tensor got = x[0].grad();
  x[0].set_grad({});
  backward(ops::sum(ops::square(ops::rows(fused(x, p, factors), p.steps - 1, 1))));
  expect_same_bits(got, x[0].grad(), "gradient");
}

// What it needs does not grow with the steps if only the last state is wanted.
TEST(RefineFactor, ConstantMemoryInTheSteps) {
  Problem p{.boards = 4, .variables = 60, .channels = 16, .hidden = 32};
  const Graph factors = factors_of(p);
  std::vector<Tensor> x = inputs_of(p);
  for (Tensor& t : x) t = t.dtype() == DType::i32 ? t : t.to(DType::f32);
  int64_t peak[2];
  for (const int k : {0, 1}) {
    p.steps = k == 0 ? 2 : 200;
    reset_peak_memory(Device::cpu);
    const int64_t before = memory_stats(Device::cpu).live;
    fused(x, p, factors, ops::States::last);
    peak[k] = memory_stats(Device::cpu).peak - before;
  }
  EXPECT_EQ(peak[0], peak[1]);
}

// No gradients of the parameters are formed where all of them are constants; that of h is the same.
TEST(RefineFactor, FrozenWeights) {
  const Problem p{.boards = 3, .variables = 70, .steps = 3};
  const Graph factors = factors_of(p);
  for (const auto& [dtype, device] :
       {std::pair{DType::f64, Device::cpu}, std::pair{DType::f32, Device::cpu},
        std::pair{DType::f32, Device::cuda}}) {
    if (!available(device)) continue;
    std::vector<std::vector<double>> gradients;
    for (const bool frozen : {false, true}) {
      std::vector<Tensor> x = inputs_of(p);
      for (size_t k = 0; k < x.size(); ++k) {
        x[k] = (k < 10 ? x[k].to(dtype) : x[k]).to(device);
        if (k == 0 || (k < 10 && !frozen)) x[k].set_requires_grad();
      }
      backward(ops::sum(ops::square(fused(x, p, factors))));
      gradients.push_back(x[0].grad().to(Device::cpu).to(DType::f64).to_vector<double>());
      EXPECT_EQ(x[1].grad().defined(), !frozen);
    }
    EXPECT_EQ(gradients[1], gradients[0]) << name(dtype) << " on " << name(device);
  }
}

TEST(RefineFactor, NotFinite) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const Problem p{.boards = 2};
  OpCase c = make_case("nan", p);
  c.gradient_probes = 0;
  std::vector<double> h = c.inputs[0].to_vector<double>();
  h[3] = nan;  // in the first board
  c.inputs[0] = Tensor::from(h, c.inputs[0].shape());
  check_op("refine_factor", {c});
}

TEST(RefineFactor, IsOnceDifferentiable) {
  const Problem p;
  const Graph factors = factors_of(p);
  std::vector<Tensor> x = inputs_of(p);
  for (size_t k = 0; k < 10; ++k) x[k].set_requires_grad();
  const Tensor y = fused(x, p, factors);
  const Tensor g = vjp(y, x[0], Tensor::full(y.shape(), 1, y.options()), {.create_graph = true});
  EXPECT_THROW(backward(ops::sum(g)), GradientError);
}

TEST(RefineFactor, RefusesWhatDoesNotFit) {
  const Problem p;
  const Graph factors = factors_of(p);
  const std::vector<Tensor> good = inputs_of(p);
  const auto with = [&](size_t k, Tensor t) {
    std::vector<Tensor> x = good;
    x[k] = std::move(t);
    return x;
  };
  const TensorOptions f64{.dtype = DType::f64};
  for (size_t k = 0; k < 10; ++k) {
    Shape wrong = good[k].shape();
    wrong.push_back(1);
    EXPECT_THROW(fused(with(k, Tensor::zeros(wrong, f64)), p, factors), ShapeError) << k;
    EXPECT_THROW(fused(with(k, Tensor()), p, factors), TypeError) << k;
    if (k > 0) {
      EXPECT_THROW(fused(with(k, Tensor::zeros(good[k].shape())), p, factors), TypeError) << k;
    }
  }
  EXPECT_THROW(fused(with(10, Tensor::zeros({2, 12})), p, factors), TypeError);
  EXPECT_THROW(fused(with(10, Tensor::zeros({2, 11}, {.dtype = DType::i32})), p, factors),
               ShapeError);
  EXPECT_THAT(
      [&] {
        fused(with(10, Tensor::full({2, 12}, 3, {.dtype = DType::i32})), p, factors);
      },
      ThrowsMessage<OptionError>(HasSubstr("clues from 3 to 3, wanted 0 to 2")));
  Problem other = p;
  other.steps = 0;
  EXPECT_THROW(fused(good, other, factors), OptionError);
  for (const auto& types :
       std::vector<std::vector<int32_t>>{{}, {0}, {0, 9, 4}, {1, 9}, {0, 8}, {0, 1, 2, 3, 4, 9}}) {
    other = p;
    other.types = types;
    EXPECT_THROW(fused(good, other, factors), OptionError) << types.size();
  }
}

}  // namespace
}  // namespace stillpoint::test
