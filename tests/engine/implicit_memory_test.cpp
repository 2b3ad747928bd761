// Memory of a training step does not grow with the iterations of the solve.
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "engine/memory.h"
#include "tests/support/equilibrium.h"
#include "tests/support/op_test.h"

namespace stillpoint::test {
namespace {

using implicit::Anderson;
using implicit::Broyden;
using implicit::Damped;
using implicit::Exact;
using implicit::fixed_point;
using implicit::Gmres;

// z' = rms_norm(z + W2 relu(W1 z + x)), of ops: what is unrolled keeps several tensors a step.
struct Block {
  Tensor w1, w2, x;
  mutable int calls = 0;

  Block(Device device, const Shape& shape) {
    const auto make = [&](const Tensor& t) {
      Tensor made = t.to(DType::f32).to(device).clone();
      made.set_requires_grad();
      return made;
    };
    w1 = make(matrix_with_norm(shape.back(), 0.9, 1));
    w2 = make(matrix_with_norm(shape.back(), 0.9, 2));
    x = make(random_tensor(shape, 3));
  }
  // Every second call is shifted, so that no solve comes to rest before its cap.
  Tensor operator()(const Tensor& z, const Tensor& in) const {
    const Tensor hidden = ops::relu(ops::add(ops::linear(z, w1), in));
    const Tensor next = ops::rms_norm(z, {}, ops::linear(hidden, w2));
    return ops::affine(next, 1.0, calls++ % 2 == 0 ? 0.0 : 1e-2);
  }
  Tensor start() const { return Tensor::zeros(x.shape(), x.options()); }
  void forget_gradients() const {
    for (Tensor t : {w1, w2, x}) t.set_grad({});
  }
};

int64_t peak_of(Device device, const std::function<void()>& step) {
  reset_peak_memory(device);
  const int64_t before = memory_stats(device).live;
  step();
  return memory_stats(device).peak - before;
}

struct Solvers {
  std::string name;
  implicit::Solver forward;
  implicit::AdjointSolver adjoint;
};

double implicit_peak(const Block& block, const Solvers& solvers, int forward, int adjoint) {
  return static_cast<double>(peak_of(block.x.device(), [&] {
    const auto [z, report] =
        fixed_point(block, block.start(), block.x,
                    {.solver = solvers.forward,
                     .forward = {.tolerance = 0, .max_iterations = forward},
                     .adjoint = Exact{.solver = solvers.adjoint,
                                      .stopping = {.tolerance = 0, .max_iterations = adjoint}}});
    EXPECT_EQ(report->forward.evaluations, forward) << solvers.name;
    EXPECT_EQ(report->left_out, 0) << solvers.name;
    backward(ops::sum(ops::square(z)));
    block.forget_gradients();
  }));
}

double unrolled_peak(const Block& block, int steps) {
  return static_cast<double>(peak_of(block.x.device(), [&] {
    Tensor z = block.start();
    for (int k = 0; k < steps; ++k) z = block(z, block.x);
    backward(ops::sum(ops::square(z)));
    block.forget_gradients();
  }));
}

void check(const Block& block, const std::vector<Solvers>& all, const std::vector<int>& more) {
  const double unrolled = unrolled_peak(block, 32);
  for (const Solvers& solvers : all) {
    const double few = implicit_peak(block, solvers, 16, 16);
    EXPECT_LT(few, 0.4 * unrolled) << solvers.name;
    for (const int iterations : more) {
      EXPECT_NEAR(implicit_peak(block, solvers, iterations, 16), few, 0.02 * few)
          << solvers.name << ", " << iterations << " iterations";
      // A linear solve may come to rest in single precision, and its samples leave.
      EXPECT_LE(implicit_peak(block, solvers, 16, iterations), 1.02 * few)
          << solvers.name << ", " << iterations << " iterations of the adjoint";
    }
  }
}

const Solvers kAnderson = {"anderson", Anderson{}, Anderson{}};

TEST(ImplicitMemory, DoesNotGrowWithTheIterations) {
  check(Block(Device::cpu, {8, 9, 48}),
        {{"damped", Damped{}, Damped{}},
         kAnderson,
         {"broyden", Broyden{.memory = 8}, Broyden{.memory = 8}},
         {"gmres", Anderson{}, Gmres{.restart = 6}}},
        {64, 256});
}

TEST(ImplicitMemory, DoesNotGrowWithTheIterationsOnCuda) {
  if (!available(Device::cuda)) GTEST_SKIP() << "no CUDA device";
  check(Block(Device::cuda, {8, 5, 48}), {kAnderson}, {64});
}

}  // namespace
}  // namespace stillpoint::test
