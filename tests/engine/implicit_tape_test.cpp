// Where the gradient of a fixed point goes: to all that f touched, and to nothing in silence. Each
// test fails if what other libraries of implicit layers let pass happens here.
#include <gmock/gmock.h>

#include "tests/support/equilibrium.h"
#include "tests/support/op_test.h"

namespace stillpoint::test {
namespace {

using implicit::Broyden;
using implicit::fixed_point;
using testing::HasSubstr;
using testing::ThrowsMessage;

// Nothing but a captured parameter needs a gradient: neither z0 nor the input.
TEST(ImplicitTape, CapturedParametersGetTheirGradient) {
  const Tensor w = parameter({0.5}, {1});
  const Tensor z =
      fixed_point([&](const Tensor& v, const Tensor& x) { return ops::add(ops::mul(v, w), x); },
                  f64({0}, {1, 1}), f64({1}, {1, 1}), tight())
          .z;
  ASSERT_TRUE(z.requires_grad());
  backward(ops::sum(z));
  ASSERT_TRUE(w.grad().defined());
  EXPECT_NEAR(w.grad().item(), 4, 1e-9);  // z = 1 / (1 - w)
}

// A captured result of an earlier op passes the gradient on to what it was made of; captured
// tensors may depend on each other.
TEST(ImplicitTape, CapturedResultsPassTheGradientOn) {
  const Tensor w = parameter({0.5}, {1});
  const Tensor half = ops::affine(w, 0.5), quarter = ops::mul(half, w);  // w / 2, w^2 / 2
  const Tensor z =
      fixed_point([&](const Tensor& v) { return ops::add(ops::mul(v, half), quarter); },
                  f64({0}, {1, 1}), tight())
          .z;
  backward(ops::sum(z));
  // z = q / (1 - h): dz = (w + z / 2) / (1 - h) dw.
  EXPECT_NEAR(w.grad().item(), (0.5 + (0.125 / 0.75) / 2) / 0.75, 1e-9);
}

// Two uses of one parameter, inside of f and outside, add up; and so do two fixed points.
TEST(ImplicitTape, UsesAddUp) {
  const Tensor w = parameter({0.5}, {1});
  const auto f = [&](const Tensor& v) { return ops::add(ops::mul(v, w), w); };
  const Tensor a = fixed_point(f, f64({0}, {1, 1}), tight()).z;
  const Tensor b = fixed_point(f, f64({9}, {1, 1}), tight(Broyden{})).z;
  backward(ops::sum(ops::add(ops::mul(a, w), b)));
  // z = w / (1 - w), dz = 1 / (1 - w)^2: w z' + z + z'.
  EXPECT_NEAR(w.grad().item(), 0.5 * 4 + 1 + 4, 1e-8);
}

TEST(ImplicitTape, TheStartGetsNoGradientAndSaysSo) {
  const Tensor z0 = parameter({3}, {1, 1});
  const Tensor z =
      fixed_point([](const Tensor& v) { return ops::affine(v, 0.5, 1.0); }, z0, tight()).z;
  EXPECT_THAT([&] { backward(ops::sum(z)); },
              ThrowsMessage<GradientError>(HasSubstr("does not depend on anything")));
}

TEST(ImplicitTape, SecondDerivativesAreRefused) {
  const Tensor w = parameter({0.5}, {1});
  const Tensor z = fixed_point([&](const Tensor& v) { return ops::affine(ops::mul(v, w), 1, 1); },
                               f64({0}, {1, 1}), tight())
                       .z;
  EXPECT_THAT(
      [&] {
        vjp(z, w, f64({1}, {1, 1}), {.create_graph = true});
      },
      ThrowsMessage<GradientError>(HasSubstr("fixed_point: has no second derivative")));
}

TEST(ImplicitTape, BackwardTwiceOnlyWhenAskedFor) {
  const Tensor w = parameter({0.5}, {1});
  const auto [z, report] =
      fixed_point([&](const Tensor& v) { return ops::affine(ops::mul(v, w), 1, 1); },
                  f64({0}, {1, 1}), tight());
  const Tensor loss = ops::sum(z);
  backward(loss, {.retain_graph = true});
  backward(loss);
  EXPECT_NEAR(w.grad().item(), 8, 1e-8);
  EXPECT_EQ(report->adjoint_solves, 2);
  EXPECT_THROW(backward(loss), GradientError);
}

TEST(ImplicitTape, NoTapeWithoutGradients) {
  Calls calls;
  const Tensor w = parameter({0.5}, {1});
  const auto f = [&](const Tensor& v) {
    calls.rows.push_back(v.dim(0));
    return ops::affine(ops::mul(v, w), 1, 1);
  };
  const NoGrad quiet;
  const auto [z, report] = fixed_point(f, f64({0}, {1, 1}), tight());
  EXPECT_FALSE(z.requires_grad());
  EXPECT_EQ(calls.total(), report->forward.rows_evaluated);
}

// ---- fixed points in fixed points --------------------------------------------------------------

// Outer z = v + x, where v = 0.5 tanh(W v) + 0.3 z is itself a fixed point.
struct Nested {
  Tensor w = matrix_with_norm(3, 0.8, 1);
  Tensor x = random_tensor({2, 3}, 2);

  Nested() {
    w.set_requires_grad();
    x.set_requires_grad();
  }
  Tensor inner(const Tensor& v, const Tensor& z) const {
    return ops::add(ops::affine(ops::tanh(ops::linear(v, w)), 0.5), ops::affine(z, 0.3));
  }
};

TEST(ImplicitTape, NestedFixedPoints) {
  const Nested at;
  const Tensor zero = Tensor::zeros({2, 3}, {DType::f64});
  const auto outer = [&](const Tensor& z, const Tensor& x) {
    const Tensor start = Tensor::zeros(z.shape(), z.options());
    const Tensor v = fixed_point([&](const Tensor& u, const Tensor& in) { return at.inner(u, in); },
                                 start, z, tight())
                         .z;
    return ops::add(v, x);
  };
  const Tensor z = fixed_point(outer, zero, at.x, tight()).z;

  Tensor unrolled = zero;
  for (int k = 0; k < 50; ++k) {
    Tensor v = zero;
    for (int j = 0; j < 50; ++j) v = at.inner(v, unrolled);
    unrolled = ops::add(v, at.x);
  }
  const Tensor g = random_tensor({2, 3}, 3);
  const std::vector<Tensor> targets = {at.w, at.x};
  const auto got = vjp({&z, 1}, targets, {&g, 1}), wanted = vjp({&unrolled, 1}, targets, {&g, 1});
  EXPECT_LT(relative_error(z, unrolled), 1e-10);
  EXPECT_LT(relative_error(got[0], wanted[0]), 1e-8);
  EXPECT_LT(relative_error(got[1], wanted[1]), 1e-8);
}

// The result of one solve is another's input, and captured by a third.
TEST(ImplicitTape, FixedPointsInSequence) {
  const Tensor w = parameter({0.5}, {1});
  const Tensor zero = f64({0}, {1, 1});
  const auto step = [&](const Tensor& v, const Tensor& in) { return ops::add(ops::mul(v, w), in); };
  const Tensor a = fixed_point([&](const Tensor& v) { return step(v, w); }, zero, tight()).z;
  const Tensor b = fixed_point(step, zero, a, tight()).z;
  const Tensor c = fixed_point([&](const Tensor& v) { return step(v, b); }, zero, tight()).z;
  backward(ops::sum(c));
  EXPECT_NEAR(c.item(), 0.5 / 0.125, 1e-9);              // w / (1 - w)^3
  EXPECT_NEAR(w.grad().item(), 8 + 3 * 0.5 * 16, 1e-7);  // and its derivative
}

}  // namespace
}  // namespace stillpoint::test
