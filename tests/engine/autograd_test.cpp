#include "engine/autograd.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>

#include "engine/gradcheck.h"
#include "engine/memory.h"
#include "engine/ops.h"

namespace stillpoint {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::ThrowsMessage;

Tensor leaf(std::vector<double> values) {
  const auto n = static_cast<int64_t>(values.size());
  return Tensor::from(values, {n}).set_requires_grad();
}

TEST(Autograd, ChainAndSum) {
  const Tensor x = leaf({1, 2, 3});
  backward(ops::sum(ops::mul(ops::square(x), x)));  // x^3
  EXPECT_THAT(x.grad().to_vector<double>(), ElementsAre(3, 12, 27));
}

TEST(Autograd, AddsUpOverUsesAndCalls) {
  const Tensor x = leaf({1, 2});
  backward(ops::sum(ops::add(x, x)));
  EXPECT_THAT(x.grad().to_vector<double>(), ElementsAre(2, 2));
  backward(ops::sum(x));
  EXPECT_THAT(x.grad().to_vector<double>(), ElementsAre(3, 3));
}

TEST(Autograd, GradientsOfLeavesAreAddedWhenAsked) {
  const Tensor x = leaf({1, 2}), y = leaf({3, 4});
  const std::vector<LeafGradient> first = leaf_gradients(ops::sum(ops::add(ops::mul(x, x), x)));
  const std::vector<LeafGradient> second = leaf_gradients(ops::sum(ops::mul(x, y)));
  EXPECT_FALSE(x.grad());
  EXPECT_EQ(first.size(), 1U);  // y has no part in it
  EXPECT_EQ(second.size(), 2U);
  add_gradients(second);
  add_gradients(first);
  EXPECT_THAT(x.grad().to_vector<double>(), ElementsAre(3 + 2 + 1, 4 + 4 + 1));
  EXPECT_THAT(y.grad().to_vector<double>(), ElementsAre(1, 2));
}

TEST(Autograd, DiamondVisitsEveryNodeOnce) {
  const Tensor x = leaf({3});
  Tensor y = x;
  for (int k = 0; k < 40; ++k) y = ops::add(y, y);  // 2^40 paths
  backward(ops::sum(y));
  EXPECT_THAT(x.grad().to_vector<double>(), ElementsAre(0x1p40));
}

TEST(Autograd, NoGradAndDetachRecordNothing) {
  const Tensor x = leaf({1});
  {
    const NoGrad quiet;
    EXPECT_FALSE(ops::square(x).requires_grad());
    {
      const WithGrad loud;
      EXPECT_TRUE(ops::square(x).requires_grad());
    }
    EXPECT_FALSE(grad_enabled());
  }
  EXPECT_TRUE(grad_enabled());
  EXPECT_FALSE(x.detach().requires_grad());
  EXPECT_THAT([&] { backward(ops::sum(x.detach())); },
              ThrowsMessage<GradientError>(HasSubstr("does not depend on anything")));
}

TEST(Autograd, VjpOfInnerTensorsLeavesLeavesAlone) {
  const Tensor x = leaf({2}), w = leaf({5});
  const Tensor h = ops::square(x);
  const Tensor y = ops::mul(h, w);
  const Tensor one = Tensor::full({1}, 1, {.dtype = DType::f64});
  const std::vector<Tensor> inputs = {h, w, x};
  const auto g = vjp({&y, 1}, inputs, {&one, 1});
  EXPECT_EQ(g[0].item(), 5);
  EXPECT_EQ(g[1].item(), 4);
  EXPECT_EQ(g[2].item(), 20);
  EXPECT_FALSE(x.grad().defined());
  EXPECT_FALSE(w.grad().defined());
}

TEST(Autograd, VjpGivesZerosWithoutInfluence) {
  const Tensor x = leaf({2}), other = leaf({1, 2});
  const Tensor y = ops::square(x);
  const Tensor one = Tensor::full({1}, 1, {.dtype = DType::f64});
  EXPECT_THAT(vjp(y, other, one).to_vector<double>(), ElementsAre(0, 0));
}

TEST(Autograd, SecondAndThirdDerivatives) {
  const Tensor x = leaf({2});
  const Tensor one = Tensor::full({1}, 1, {.dtype = DType::f64});
  const Tensor y = ops::mul(ops::square(x), ops::square(x));  // x^4
  const Tensor d1 = vjp(y, x, one, {.create_graph = true});
  const Tensor d2 = vjp(d1, x, one, {.create_graph = true});
  const Tensor d3 = vjp(d2, x, one);
  EXPECT_DOUBLE_EQ(d1.item(), 32);
  EXPECT_DOUBLE_EQ(d2.item(), 48);
  EXPECT_DOUBLE_EQ(d3.item(), 48);
}

TEST(Autograd, SavedStateIsFreedUnlessRetained) {
  const Tensor x = leaf({2});
  const Tensor y = ops::sum(ops::square(x));
  backward(y, {.retain_graph = true});
  backward(y);
  EXPECT_THAT(x.grad().to_vector<double>(), ElementsAre(8));
  EXPECT_THAT([&] { backward(y); }, ThrowsMessage<GradientError>(HasSubstr("retain_graph")));
}

TEST(Autograd, TapeIsFreedWithItsOutputs) {
  const Tensor x = leaf(std::vector<double>(1000, 1.0));
  const int64_t before = memory_stats(Device::cpu).live;
  {
    Tensor y = x;
    for (int k = 0; k < 5; ++k) y = ops::tanh(y);
    EXPECT_GT(memory_stats(Device::cpu).live, before);
  }
  EXPECT_EQ(memory_stats(Device::cpu).live, before);
}

// No closure of this chain saves anything as large as the tensors that flow through it.
TEST(Autograd, TapeKeepsOnlyWhatClosuresSave) {
  Tensor x = Tensor::zeros({1000});
  x.set_requires_grad();
  reset_peak_memory(Device::cpu);
  const int64_t before = memory_stats(Device::cpu).live;
  Tensor y = x;
  for (int k = 0; k < 20; ++k) y = ops::add(ops::affine(y, 0.5), Tensor::full({}, 1.0));
  EXPECT_LT(memory_stats(Device::cpu).peak - before, 6 * x.bytes());
  backward(ops::sum(y));
  EXPECT_DOUBLE_EQ(x.grad().to_vector<float>()[0], std::ldexp(1.0, -20));
}

TEST(Autograd, LongTapesNeedNoDeepStack) {
  const Tensor x = leaf({1});
  Tensor y = x;
  for (int k = 0; k < 200000; ++k) y = ops::affine(y, 1.0, 0.0);
  backward(ops::sum(y));
  EXPECT_EQ(x.grad().item(), 1);
}

// Thread-local objects are destroyed before static ones: a tape may outlive them.
TEST(AutogradDeathTest, StaticTensorsMayHaveAHistory) {
  EXPECT_EXIT(
      {
        static const Tensor kept = ops::square(ops::square(leaf({1})));
        { const Tensor freed = ops::square(leaf({1})); }
        std::exit(kept.requires_grad() ? 0 : 1);
      },
      testing::ExitedWithCode(0), "");
}

TEST(Autograd, UndifferentiableSaysSo) {
  const Tensor x = leaf({1});
  const Tensor y = record_undifferentiable("some_backward", {x}, x.clone());
  EXPECT_THAT([&] { backward(ops::sum(y)); },
              ThrowsMessage<GradientError>(HasSubstr("some_backward: has no derivative")));
}

TEST(Autograd, SeveralOutputsMayStayUnused) {
  const Tensor x = leaf({3});
  const auto outputs =
      record_many("pair", {x}, {x.clone(), x.clone()}, [](std::span<const Tensor> g) -> Gradients {
        EXPECT_FALSE(g[0].defined());
        return {ops::affine(g[1], 7.0)};
      });
  backward(ops::sum(outputs[1]));
  EXPECT_EQ(x.grad().item(), 7);
}

TEST(Autograd, WrongNumberOrShapeOfGradientsIsCaught) {
  const Tensor x = leaf({1, 2});
  const auto with = [&](Gradients g) {
    backward(ops::sum(record("bad", {x}, x.clone(), [g](const Tensor&) { return g; })));
  };
  EXPECT_THROW(with({}), GradientError);
  EXPECT_THROW(with({Tensor::zeros({3}, {.dtype = DType::f64})}), GradientError);
}

// ---- checkpoint --------------------------------------------------------------------------------

TEST(Checkpoint, SameGradientsForInputsParametersAndCapturedTensors) {
  const auto run = [](bool checkpointed) {
    const Tensor x = leaf({0.3, -0.2}), w = leaf({1.5, 0.7}), u = leaf({2, 3});
    const Tensor captured = ops::square(u);  // made before, by a recorded op
    const TensorFunction f = [&](std::span<const Tensor> in) {
      return ops::tanh(ops::mul(ops::mul(in[0], w), captured));
    };
    const Tensor y = checkpointed ? checkpoint(f, {x}) : f(std::span(&x, 1));
    backward(ops::sum(ops::square(y)));
    std::vector<double> all;
    for (const Tensor& t : {x, w, u})
      for (const double g : t.grad().to_vector<double>()) all.push_back(g);
    return all;
  };
  EXPECT_EQ(run(true), run(false));
}

// What f captured may depend on each other: the tape above f is not f's to walk.
TEST(Checkpoint, CapturedTensorsThatDependOnEachOther) {
  const auto run = [](bool checkpointed) {
    const Tensor x = leaf({0.3, -0.2}), u = leaf({2, 3});
    const Tensor c = ops::square(u), d = ops::tanh(c);
    const TensorFunction f = [&](std::span<const Tensor> in) {
      return ops::mul(ops::mul(in[0], u), ops::mul(c, d));
    };
    const Tensor y = checkpointed ? checkpoint(f, {x}) : f(std::span(&x, 1));
    backward(ops::sum(ops::add(y, d)));
    std::vector<double> all = x.grad().to_vector<double>();
    for (const double g : u.grad().to_vector<double>()) all.push_back(g);
    return all;
  };
  const std::vector<double> got = run(true), wanted = run(false);
  ASSERT_EQ(got.size(), wanted.size());
  for (size_t k = 0; k < got.size(); ++k) EXPECT_DOUBLE_EQ(got[k], wanted[k]) << k;
}

TEST(Checkpoint, FunctionMayReturnWhatItWasGivenOrCaptured) {
  const Tensor x = leaf({0.5}), u = leaf({3}), c = ops::square(u);
  const auto gradient_of = [&](const TensorFunction& f, const Tensor& of) {
    const Tensor y = checkpoint(f, {x});
    EXPECT_TRUE(y.requires_grad());
    return vjp(y, of, Tensor::full({1}, 5, {.dtype = DType::f64}), {.retain_graph = true}).item();
  };
  EXPECT_EQ(gradient_of([](std::span<const Tensor> in) { return in[0]; }, x), 5);
  EXPECT_EQ(gradient_of([&](std::span<const Tensor>) { return Tensor(u); }, u), 5);
  EXPECT_EQ(gradient_of([&](std::span<const Tensor>) { return Tensor(c); }, c), 5);
  EXPECT_EQ(gradient_of([&](std::span<const Tensor>) { return Tensor(c); }, u), 30);
}

TEST(Checkpoint, KeepsOneSegmentAtATime) {
  const auto peak = [](bool checkpointed) {
    const Tensor x = leaf(std::vector<double>(20000, 0.1));
    const TensorFunction segment = [](std::span<const Tensor> in) {
      Tensor h = in[0];
      for (int k = 0; k < 8; ++k) h = ops::tanh(h);
      return h;
    };
    reset_peak_memory(Device::cpu);
    const int64_t before = memory_stats(Device::cpu).live;
    Tensor h = x;
    for (int k = 0; k < 8; ++k)
      h = checkpointed ? checkpoint(segment, {h}) : segment(std::span(&h, 1));
    backward(ops::sum(h));
    return memory_stats(Device::cpu).peak - before;
  };
  EXPECT_LT(2 * peak(true), peak(false));
}

// ---- gradcheck ---------------------------------------------------------------------------------

TEST(Gradcheck, AcceptsRightAndRejectsWrongGradients) {
  const auto cube = [](double factor) {
    return [factor](std::span<const Tensor> in) {
      const Tensor& x = in[0];
      const Tensor y = ops::mul(ops::square(x), x).detach();
      return record("cube", {x}, y, [x, factor](const Tensor& g) -> Gradients {
        return {ops::mul(g, ops::affine(ops::square(x), 3.0 * factor))};
      });
    };
  };
  const std::vector<Tensor> at = {Tensor::from<double>({0.5, -1.25, 2}, {3})};
  EXPECT_TRUE(gradcheck(cube(1.0), at).ok);
  EXPECT_TRUE(gradgradcheck(cube(1.0), at).ok);
  const GradcheckReport wrong = gradcheck(cube(1.0001), at);
  EXPECT_FALSE(wrong.ok);
  EXPECT_THAT(wrong.message, HasSubstr("finite difference"));
  // The right gradient, whose own gradient is wrong.
  const auto wrong_twice = [](std::span<const Tensor> in) {
    const Tensor& x = in[0];
    return record(
        "cube", {x}, ops::mul(ops::square(x), x).detach(), [x](const Tensor& g) -> Gradients {
          const Tensor slope = ops::affine(ops::square(x), 3.0);
          return {record(
              "cube_backward", {g, x}, ops::mul(g, slope).detach(),
              [g, x, slope](const Tensor& u) -> Gradients {
                return {ops::mul(u, slope), ops::mul(u, ops::mul(g, ops::affine(x, 6.0006)))};
              })};
        });
  };
  EXPECT_TRUE(gradcheck(wrong_twice, at).ok);
  EXPECT_FALSE(gradgradcheck(wrong_twice, at).ok);
}

TEST(Gradcheck, WantsDoubles) {
  const auto f = [](std::span<const Tensor> in) { return ops::square(in[0]); };
  EXPECT_THROW((void)gradcheck(f, {Tensor::zeros({2})}), TypeError);
}

}  // namespace
}  // namespace stillpoint
