#include "models/sudoku/equilibrium.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "engine/autograd.h"
#include "engine/dispatch.h"
#include "engine/error.h"
#include "engine/implicit/stability.h"
#include "kernels/common/parallel.h"
#include "models/sudoku/answer.h"
#include "models/sudoku/trainer.h"
#include "tests/models/sudoku_equilibrium_networks.h"

namespace stillpoint::sudoku {
namespace {

// Every parameter in one row, by name.
std::vector<float> gradients(const Trainer& trainer) {
  NamedTensors some;
  for (const auto& [name, p] : trainer.optimiser().parameters())
    if (p.grad()) some.emplace(name, p.grad());
  return values(some);
}

// The gradient of one window of the pool.
std::vector<float> gradient_of_pool(const Trainer& trainer, CarryReport* report = nullptr) {
  CarryPool pool(trainer.options().carry);
  const CarryReport got = pool.step(trainer.net());
  if (report != nullptr) *report = got;
  return gradients(trainer);
}

double difference(const std::vector<float>& a, const std::vector<float>& b) {
  double apart = 0, size = 0;
  EXPECT_EQ(a.size(), b.size());
  for (size_t k = 0; k < std::min(a.size(), b.size()); ++k) {
    apart += std::pow(double{a[k]} - double{b[k]}, 2);
    size += std::pow(double{b[k]}, 2);
  }
  return std::sqrt(apart / size);
}

TEST(Equilibrium, TheExactGradientIsThatOfALongUnroll) {
  // The untrained networks contract, so that 400 refinements end at the fixed point too.
  for (const Model model : {Model::symbol, Model::refine}) {
    for (const SolverKind solver :
         {SolverKind::anderson, SolverKind::broyden, SolverKind::damped}) {
      const Trainer exact(options4(
          model,
          {.solver = solver, .tolerance = 1e-6, .iterations = 400, .adjoint_iterations = 400}));
      CarryReport report;
      const std::vector<float> got = gradient_of_pool(exact, &report);
      EXPECT_EQ(report.equilibrium.unconverged, 0) << name(model) << name(solver);
      EXPECT_EQ(report.equilibrium.adjoint_unconverged, 0) << name(model) << name(solver);

      const Trainer unrolled(options4(model));
      std::vector<Board> givens, solutions;
      for (const auto& made : generate(unrolled.options().carry.puzzles, 0, 10)) {
        givens.push_back(made.givens);
        solutions.push_back(made.solution);
      }
      const Network& net = unrolled.net();
      const Tensor h = net.refine(net.start(10).detach(), net.encode(givens), 400);
      const Tensor loss = ops::cross_entropy(net.logits(h), digits(solutions));
      backward(loss);
      EXPECT_NEAR(report.loss, loss.item(), 1e-4);
      EXPECT_LT(difference(got, gradients(unrolled)), 1e-3) << name(model) << name(solver);
    }
  }
}

TEST(Equilibrium, ApproximateGradientsPointTheSameWay) {
  const auto gradient = [](AdjointKind adjoint, int iterations) {
    return gradient_of_pool(
        Trainer(options4(Model::symbol, {.adjoint = adjoint, .adjoint_iterations = iterations})));
  };
  const std::vector<float> exact = gradient(AdjointKind::exact, 30);
  const double one_step = difference(gradient(AdjointKind::one_step, 5), exact);
  const double phantom = difference(gradient(AdjointKind::phantom, 5), exact);
  const double neumann = difference(gradient(AdjointKind::neumann, 5), exact);
  EXPECT_LT(one_step, 1);  // less than a gradient of zero
  EXPECT_LT(phantom, one_step);
  EXPECT_LT(neumann, one_step);
  EXPECT_LT(difference(gradient(AdjointKind::unrolled_phantom, 5), exact), one_step);
  EXPECT_LT(difference(gradient(AdjointKind::unrolled_phantom, 40), exact), 0.02);
  EXPECT_LT(difference(gradient(AdjointKind::neumann, 40), exact), 0.02);
}

TEST(Equilibrium, TrainingLowersTheLoss) {
  for (const Model model : {Model::symbol, Model::refine}) {
    for (const AdjointKind adjoint :
         {AdjointKind::exact, AdjointKind::phantom, AdjointKind::one_step, AdjointKind::neumann,
          AdjointKind::unrolled_phantom}) {
      const bool exact = adjoint == AdjointKind::exact;
      Trainer trainer(options4(model, {.adjoint = adjoint, .adjoint_iterations = exact ? 30 : 5}));
      double first = 0, last = 0;
      for (int k = 0; k < 40; ++k) {
        const TrainReport report = trainer.step(k / 40.0);
        if (k < 5) first += report.carry.loss;
        if (k >= 35) last += report.carry.loss;
        EXPECT_EQ(report.carry.replaced, 10);
        EXPECT_GT(report.carry.equilibrium.iterations, 1);
        EXPECT_EQ(report.carry.equilibrium.adjoint_iterations > 0, exact);
        EXPECT_EQ(report.carry.equilibrium.penalty, 0);
      }
      EXPECT_LT(last, 0.9 * first) << name(model) << " " << name(adjoint);
    }
  }
}

TEST(Equilibrium, ThePenaltyMakesTheJacobianSmaller) {
  for (const Model model : {Model::symbol, Model::refine}) {
    Trainer free(options4(model)), held(options4(model, {.jacobian_penalty = 10}));
    double first = 0, last = 0;
    for (int k = 0; k < 30; ++k) {
      free.step(0);
      const double penalty = held.step(0).carry.equilibrium.penalty;
      if (k == 0) first = penalty;
      last = penalty;
    }
    EXPECT_GT(first, 0) << name(model);
    EXPECT_LT(last, 0.7 * first) << name(model);
    const std::vector<Board> givens = givens_of(puzzles4(4));
    const auto radius = [&](const Trainer& trainer) {
      double sum = 0;
      for (const Stability& board : stability(trainer.net(), givens, {})) sum += board.radius;
      return sum / 4;
    };
    EXPECT_LT(radius(held), radius(free)) << name(model);
  }
}

TEST(Equilibrium, TheRadiusIsTheRateOfPlainIteration) {
  const Trainer trainer(options4(Model::refine));
  const Network& net = trainer.net();
  const std::vector<Board> givens = givens_of(puzzles4(3));
  const std::vector<Stability> at_the_end =
      stability(net, givens, {.tolerance = 1e-6, .iterations = 100});
  const NoGrad no_grad;
  const Tensor x = net.encode(givens);
  EquilibriumOptions plain{.solver = SolverKind::damped, .tolerance = 1e-5, .iterations = 200};
  const auto report = implicit::fixed_point(refinement(net), net.start(3), {x},
                                            fixed_point_options(plain, net.options.model))
                          .report;
  for (size_t b = 0; b < 3; ++b) {
    const std::vector<double>& trace = report->forward.samples[b].trace;
    ASSERT_GE(trace.size(), 12u);
    const size_t last = trace.size() - 1;
    EXPECT_LE(at_the_end[b].residual, 1e-6);
    EXPECT_NEAR(at_the_end[b].radius, std::pow(trace[last] / trace[last - 6], 1.0 / 6), 0.05);
  }
}

TEST(Equilibrium, StepsAreTheSameBitsForAnyNumberOfThreads) {
  std::vector<float> wanted;
  for (const int threads : {1, 2, 3}) {
    kernels::set_num_threads(threads);
    Trainer trainer(options4(
        Model::refine, {.jacobian_penalty = 1, .start_deviation = 0.1, .path_deviation = 0.1}));
    trainer.step(0);
    const std::vector<float> got = values(trainer.optimiser().parameters());
    if (threads == 1) wanted = got;
    EXPECT_EQ(got, wanted);
  }
  kernels::set_num_threads(0);
}

TEST(Equilibrium, EveryDeviceMakesTheSameSteps) {
  if (!available(Device::cuda)) GTEST_SKIP() << "no CUDA device";
  for (const Model model : {Model::symbol, Model::refine}) {
    // All solves run to the cap: whether one converges a step sooner may hang on rounding.
    TrainOptions options = options4(
        model,
        {.tolerance = 1e-9, .iterations = 8, .adjoint_iterations = 8, .jacobian_penalty = 0.1});
    options.carry.boards = 4;
    Trainer cpu(options), cuda(options, Device::cuda);
    const int64_t on_cpu = kernel_counts().cpu;
    const TrainReport there[] = {cuda.step(0), cuda.step(0)};
    EXPECT_EQ(kernel_counts().cpu, on_cpu);  // nothing fell back
    for (const TrainReport& report : there)
      EXPECT_NEAR(cpu.step(0).carry.loss, report.carry.loss, 1e-4) << name(model);
    EXPECT_LT(
        difference(values(cuda.optimiser().parameters()), values(cpu.optimiser().parameters())),
        1e-3);
  }
}

// Of two and more samples of one lesson, as learn_fixed_points has it.
FixedPointLesson lesson_of(const Trainer& trainer, const EquilibriumOptions& options, int boards) {
  std::vector<Board> givens, solutions;
  for (const auto& made : generate(trainer.options().carry.puzzles, 0, boards)) {
    givens.push_back(made.givens);
    solutions.push_back(made.solution);
  }
  const std::vector<int32_t> wanted = digits(solutions).to_vector<int32_t>();
  Philox random(3, 0);
  return learn_fixed_points(trainer.net(),
                            {.givens = givens, .h = trainer.net().start(boards), .digits = wanted},
                            options, random);
}

TEST(Equilibrium, CorrectionsAreLossesOfIteratesOnTheWay) {
  const Trainer trainer(options4());
  const Network& net = trainer.net();
  const EquilibriumOptions plain{.solver = SolverKind::damped, .tolerance = 1e-9, .iterations = 12};
  EquilibriumOptions corrected = plain;
  corrected.corrections = 2;
  const FixedPointLesson without = lesson_of(trainer, plain, 3),
                         with = lesson_of(trainer, corrected, 3);
  EXPECT_EQ(with.evaluations_before, std::vector<int>(3, 8));
  EXPECT_EQ(with.report->forward.samples[0].iterations(), 4);
  EXPECT_EQ(without.evaluations_before, std::vector<int>(3, 0));
  // Plain iteration that never converges: the best iterate is the last one, whose image ends each
  // of the three stretches; or five refinements of it, where the next one then begins.
  EquilibriumOptions unrolled = corrected;
  unrolled.adjoint = AdjointKind::unrolled_phantom;
  unrolled.adjoint_iterations = 5;
  const FixedPointLesson behind = lesson_of(trainer, unrolled, 3);
  EXPECT_EQ(behind.evaluations_before, std::vector<int>(3, 8));
  std::vector<Board> givens, solutions;
  for (const auto& made : generate(trainer.options().carry.puzzles, 0, 3)) {
    givens.push_back(made.givens);
    solutions.push_back(made.solution);
  }
  const NoGrad no_grad;
  const auto mean_loss = [&](const std::vector<int>& refinements) {
    double sum = 0;
    for (const int count : refinements) {
      const Tensor h = net.refine(net.start(3), net.encode(givens), count);
      sum += ops::cross_entropy(net.logits(h), digits(solutions)).item();
    }
    return sum / static_cast<double>(refinements.size());
  };
  EXPECT_NEAR(with.learned.loss.item(), mean_loss({4, 8, 12}), 1e-5);
  EXPECT_NEAR(behind.learned.loss.item(), mean_loss({8, 16, 24}), 1e-5);
  EXPECT_EQ(with.learned.mean, ops::cross_entropy(with.learned.logits, digits(solutions)).item());
}

// Of four stretches of 50 the first converges, and the others have nothing left to do.
TEST(Equilibrium, IterationsAreThoseThatWereMade) {
  const Trainer trainer(options4());
  const EquilibriumOptions options{.solver = SolverKind::damped,
                                   .adjoint = AdjointKind::one_step,
                                   .tolerance = 0.01,
                                   .iterations = 200,
                                   .corrections = 3};
  const FixedPointLesson lesson = lesson_of(trainer, options, 2);
  EquilibriumReport report;
  report.add(lesson, 0.5);
  for (const int before : lesson.evaluations_before) {
    EXPECT_GT(before, 3);
    EXPECT_LT(before, 50);
  }
  EXPECT_EQ(report.iterations,
            0.5 * (lesson.evaluations_before[0] + lesson.evaluations_before[1]) + 1);
}

TEST(Equilibrium, NoiseIsOnTheStartsOfEveryOtherBoard) {
  const Trainer trainer(options4());
  EquilibriumOptions options{.solver = SolverKind::damped, .tolerance = 1e-9, .iterations = 2};
  const FixedPointLesson without = lesson_of(trainer, options, 4);
  options.start_deviation = 0.5;
  const FixedPointLesson with = lesson_of(trainer, options, 4);
  const auto a = without.learned.h.to_vector<float>(), b = with.learned.h.to_vector<float>();
  const size_t board = a.size() / 4;
  for (size_t k = 0; k < 4; ++k) {
    const bool same = std::equal(a.begin() + static_cast<int64_t>(k * board),
                                 a.begin() + static_cast<int64_t>((k + 1) * board),
                                 b.begin() + static_cast<int64_t>(k * board));
    EXPECT_EQ(same, k % 2 == 0) << k;
  }
}

// Of each board, the largest difference of its states in two lessons.
std::vector<float> apart(const FixedPointLesson& a, const FixedPointLesson& b) {
  const auto one = a.learned.h.to_vector<float>(), other = b.learned.h.to_vector<float>();
  const auto boards = static_cast<size_t>(a.learned.h.dim(0));
  std::vector<float> most(boards);
  for (size_t k = 0; k < one.size(); ++k) {
    float& board = most[k / (one.size() / boards)];
    board = std::max(board, std::abs(one[k] - other[k]));
  }
  return most;
}

// The untrained networks contract: states with a residual r are r / (1 - radius) from the fixed
// point.
TEST(Equilibrium, NoiseOnThePathIsForgottenAtTheFixedPoint) {
  constexpr double kTolerance = 1e-5;
  for (const Model model : {Model::symbol, Model::refine}) {
    const Trainer trainer(options4(model));
    std::vector<Board> givens;
    for (const auto& made : generate(trainer.options().carry.puzzles, 0, 4))
      givens.push_back(made.givens);
    const std::vector<Stability> there =
        stability(trainer.net(), givens, {.tolerance = kTolerance, .iterations = 400});
    for (const SolverKind solver :
         {SolverKind::anderson, SolverKind::broyden, SolverKind::damped}) {
      EquilibriumOptions options{.solver = solver, .tolerance = kTolerance, .iterations = 400};
      const FixedPointLesson without = lesson_of(trainer, options, 4);
      options.path_deviation = 0.5;
      const FixedPointLesson with = lesson_of(trainer, options, 4);
      EXPECT_EQ(with.evaluations_before, std::vector<int>(4, 100));
      // Of the states of a board.
      const double size = ops::sqrt(ops::sum(ops::square(without.learned.h))).item() / 2;
      for (size_t b = 0; b < 4; ++b) {
        EXPECT_TRUE(with.report->forward.samples[b].converged()) << name(solver);
        EXPECT_LT(apart(with, without)[b], 2 * kTolerance * size / (1 - there[b].radius))
            << name(model) << " " << name(solver) << b;
      }
    }
  }
}

TEST(Equilibrium, NoiseIsOnThePathsOfEveryOtherBoard) {
  const Trainer trainer(options4());
  EquilibriumOptions options{.solver = SolverKind::damped, .tolerance = 1e-9, .iterations = 8};
  const FixedPointLesson without = lesson_of(trainer, options, 4);
  options.path_deviation = 0.5;
  const FixedPointLesson with = lesson_of(trainer, options, 4);
  EXPECT_EQ(with.evaluations_before, std::vector<int>(4, 2));
  EXPECT_EQ(with.report->forward.samples[0].iterations(), 6);
  const std::vector<float> moved = apart(with, without);
  for (size_t b = 0; b < 4; ++b) EXPECT_EQ(moved[b] == 0, b % 2 == 0) << b;
}

TEST(Equilibrium, TheAdjointHasASolverAndAToleranceOfItsOwn) {
  const auto iterations = [](const EquilibriumOptions& options) {
    CarryReport report;
    gradient_of_pool(Trainer(options4(Model::refine, options)), &report);
    return report.equilibrium.adjoint_iterations;
  };
  const double loose = iterations({.tolerance = 1e-3});
  EXPECT_GT(iterations({.tolerance = 1e-3, .adjoint_tolerance = 1e-5}), loose);
  EXPECT_EQ(iterations({.tolerance = 1e-3, .adjoint_tolerance = 1e-3}), loose);
  EXPECT_NE(iterations({.adjoint_solver = AdjointSolverKind::damped}), loose);
  const auto gradient = [](AdjointSolverKind solver) {
    return gradient_of_pool(Trainer(options4(
        Model::refine,
        {.adjoint_solver = solver, .adjoint_tolerance = 1e-5, .adjoint_iterations = 200})));
  };
  const auto anderson = gradient(AdjointSolverKind::anderson);
  for (const auto solver : {AdjointSolverKind::same, AdjointSolverKind::broyden,
                            AdjointSolverKind::damped, AdjointSolverKind::gmres})
    EXPECT_LT(difference(gradient(solver), anderson), 1e-3) << name(solver);
}

TEST(Equilibrium, ClippedMatricesStayWithinTheirNorm) {
  Trainer trainer(options4(Model::refine, {.spectral_clip = 0.5}));
  for (int k = 0; k < 3; ++k) trainer.step(0);
  // Also on average, which began with the weights before the first clip.
  for (const NamedTensors& weights :
       {trainer.optimiser().parameters(), trainer.optimiser().averages()}) {
    int matrices = 0;
    for (const auto& [name, p] : weights) {
      if (!name.ends_with(".weight") || name.starts_with("readout.")) continue;
      implicit::SpectralClip norm({.clip = 1, .iterations = 100});
      norm(p.detach());
      EXPECT_LT(norm.norm().item(), 0.5 * 1.1) << name;  // ten power iterations are near, not there
      ++matrices;
    }
    EXPECT_EQ(matrices, 4);
  }
}

TEST(Equilibrium, TheGuardRaisesThePenaltyWhereTheRadiusIsTooLarge) {
  Trainer held(options4(Model::symbol, {.radius_limit = 0.05})),
      calm(options4(Model::symbol, {.radius_limit = 100})), free(options4());
  for (int k = 0; k < 25; ++k) {
    const auto h = held.step(0).guard, c = calm.step(0).guard;
    ASSERT_TRUE(h && c);
    EXPECT_GT(h->radius, 0.05);
    EXPECT_NEAR(h->weight, 0.03 * std::pow(1.25, k / 10 + 1), 1e-12);
    EXPECT_EQ(c->weight, 0.03);
    EXPECT_FALSE(free.step(0).guard.has_value());
  }
}

}  // namespace
}  // namespace stillpoint::sudoku
