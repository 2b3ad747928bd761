// Runs of equilibrium networks: saved, taken up again, refused.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <string>
#include <vector>

#include "engine/error.h"
#include "engine/io/safetensors.h"
#include "models/sudoku/guard.h"
#include "models/sudoku/trainer.h"
#include "tests/models/sudoku_equilibrium_networks.h"

namespace stillpoint::sudoku {
namespace {

namespace fs = std::filesystem;

class EquilibriumFile : public testing::Test {
 protected:
  ~EquilibriumFile() override { fs::remove(path_); }
  // Saves the checkpoint again with other text in what it says of the training.
  void forge(const std::string& from, const std::string& to) const {
    auto file = io::load_safetensors(path_);
    std::string& text = file.metadata.at("train");
    const size_t at = text.find(from);
    ASSERT_NE(at, std::string::npos) << text;
    text.replace(at, from.size(), to);
    io::save_safetensors(path_, file.tensors, file.metadata);
  }
  const fs::path path_ =
      fs::temp_directory_path() / ("stillpoint_equilibrium_" + std::to_string(getpid()));
};

TEST_F(EquilibriumFile, ResumedRunMakesTheSameStepsBitForBit) {
  const EquilibriumOptions given{.solver = SolverKind::broyden,
                                 .adjoint = AdjointKind::neumann,
                                 .adjoint_solver = AdjointSolverKind::gmres,
                                 .tolerance = 2e-3,
                                 .adjoint_tolerance = 1e-2,
                                 .iterations = 12,
                                 .adjoint_iterations = 4,
                                 .loss_at = Output::iterate,
                                 .jacobian_penalty = 0.5,
                                 .corrections = 2,
                                 .start_deviation = 0.1,
                                 .path_deviation = 0.2,
                                 .spectral_clip = 0.7,
                                 .radius_limit = 0.1};
  const EquilibriumOptions regime = *carry_options(Regime::equilibrium).equilibrium;
  EXPECT_EQ(regime.adjoint, AdjointKind::unrolled_phantom);
  for (const EquilibriumOptions& wanted : {given, regime, EquilibriumOptions{}}) {
    Trainer whole(options4(Model::refine, wanted));
    for (int k = 0; k < 3; ++k) whole.step(k / 6.0);
    whole.save(path_);
    Trainer resumed = Trainer::load(path_);
    const auto& got = resumed.options().carry.equilibrium;
    ASSERT_TRUE(got.has_value());
    EXPECT_EQ(got->solver, wanted.solver);
    EXPECT_EQ(got->adjoint, wanted.adjoint);
    EXPECT_EQ(got->loss_at, wanted.loss_at);
    EXPECT_EQ(got->tolerance, wanted.tolerance);
    EXPECT_EQ(got->iterations, wanted.iterations);
    EXPECT_EQ(got->adjoint_iterations, wanted.adjoint_iterations);
    EXPECT_EQ(got->jacobian_penalty, wanted.jacobian_penalty);
    EXPECT_EQ(got->adjoint_solver, wanted.adjoint_solver);
    EXPECT_EQ(got->adjoint_tolerance, wanted.adjoint_tolerance);
    EXPECT_EQ(got->corrections, wanted.corrections);
    EXPECT_EQ(got->start_deviation, wanted.start_deviation);
    EXPECT_EQ(got->path_deviation, wanted.path_deviation);
    EXPECT_EQ(got->spectral_clip, wanted.spectral_clip);
    EXPECT_EQ(got->radius_limit, wanted.radius_limit);
    for (int k = 3; k < 12; ++k) {  // past the guard's second look
      const TrainReport a = whole.step(k / 20.0), b = resumed.step(k / 20.0);
      EXPECT_EQ(a.guard.has_value(), wanted.radius_limit > 0);
      if (a.guard) {
        EXPECT_EQ(a.guard->weight, b.guard->weight);
      }
      EXPECT_EQ(a.carry.loss, b.carry.loss);
      EXPECT_EQ(a.carry.equilibrium.residual, b.carry.equilibrium.residual);
      EXPECT_EQ(a.carry.equilibrium.penalty, b.carry.equilibrium.penalty);
      EXPECT_EQ(a.gradient_norm, b.gradient_norm);
    }
    EXPECT_EQ(values(whole.optimiser().parameters()), values(resumed.optimiser().parameters()));
  }
}

TEST_F(EquilibriumFile, RunsGoOnWithOtherSolves) {
  Trainer whole(options4(Model::refine));
  for (int k = 0; k < 3; ++k) whole.step(0);
  whole.save(path_);
  Trainer other = Trainer::load(path_, Device::cpu, [](TrainOptions& o) {
    o.carry.equilibrium->adjoint = AdjointKind::one_step;
    o.carry.equilibrium->iterations = 5;
    o.carry.equilibrium->radius_limit = 0.05;
  });
  const TrainReport a = whole.step(0), b = other.step(0);
  EXPECT_GT(a.carry.equilibrium.adjoint_iterations, 0);
  EXPECT_EQ(b.carry.equilibrium.adjoint_iterations, 0);
  EXPECT_LE(b.carry.equilibrium.iterations, 5);
  EXPECT_FALSE(b.guard.has_value() && b.guard->seen);  // it looks every tenth step
  EXPECT_NE(a.gradient_norm, b.gradient_norm);
  other.save(path_);
  EXPECT_EQ(Trainer::load(path_).options().carry.equilibrium->adjoint, AdjointKind::one_step);
  EXPECT_THROW(Trainer::load(path_, Device::cpu,
                             [](TrainOptions& o) { o.carry.equilibrium->iterations = 0; }),
               FormatError);
}

TEST_F(EquilibriumFile, GuardedRunsGoOnWithAnotherPenalty) {
  Trainer trainer(options4(Model::refine, {.radius_limit = 100}));
  trainer.step(0);
  trainer.save(path_);
  Trainer other = Trainer::load(path_, Device::cpu,
                                [](TrainOptions& o) { o.carry.equilibrium->jacobian_penalty = 2; });
  EXPECT_EQ(other.step(0).guard->weight, 2);
}

TEST_F(EquilibriumFile, AGuardThatSawNoNumberIsSavedToo) {
  Trainer trainer(options4(Model::refine, {.radius_limit = 100}));
  trainer.step(0);
  trainer.save(path_);
  const std::string text = io::load_safetensors(path_).metadata.at("train");
  const size_t from = text.find("\"radius\":"), to = text.find(",\"seen\"");
  ASSERT_LT(from, to) << text;
  forge(text.substr(from, to - from), "\"radius\":null,\"residual\":null");
  EXPECT_TRUE(std::isnan(Trainer::load(path_).step(0).guard->radius));
}

TEST_F(EquilibriumFile, CheckpointsThatMakeNoSenseAreRefused) {
  Trainer trainer(options4());
  trainer.step(0);
  for (const auto& [from, to] : {std::pair{"anderson", "andersen"},
                                 {"exact", "inexact"},
                                 {"\"iterations\":30", "\"iterations\":0"},
                                 {"\"tolerance\":0.001", "\"tolerance\":-1"},
                                 {"\"jacobian_penalty\":0", "\"jacobian_penalty\":\"0\""},
                                 {"\"corrections\":0", "\"corrections\":30"},
                                 {"\"adjoint_solver\":\"same\"", "\"adjoint_solver\":\"lu\""},
                                 {"\"segments\":1", "\"segments\":2"}}) {
    trainer.save(path_);
    forge(from, to);
    EXPECT_THROW(Trainer::load(path_), FormatError) << to;
  }
}

TEST_F(EquilibriumFile, CheckpointsFromBeforeThereWereEquilibriaAreRead) {
  TrainOptions options = options4();
  options.carry = carry_options(Regime::carry);
  options.carry.puzzles.geometry = {2};
  options.carry.boards = 4;
  Trainer trainer(options);
  trainer.step(0);
  trainer.save(path_);
  forge("\"equilibrium\":null,", "");
  EXPECT_EQ(regime_of(Trainer::load(path_).options().carry), Regime::carry);
}

TEST_F(EquilibriumFile, CheckpointsThatDoNotSayReadTheLossAtTheIterate) {
  Trainer trainer(options4());
  trainer.step(0);
  trainer.save(path_);
  EXPECT_EQ(Trainer::load(path_).options().carry.equilibrium->loss_at, Output::image);
  forge("\"loss_at\":\"image\",", "");
  EXPECT_EQ(Trainer::load(path_).options().carry.equilibrium->loss_at, Output::iterate);
}

TEST(Equilibrium, RefusesOptionsThatContradictThemselves) {
  for (const auto& change : std::vector<void (*)(CarryOptions&)>{
           [](CarryOptions& o) { o.segments = 2; },
           [](CarryOptions& o) { o.equilibrium->tolerance = 1; },
           [](CarryOptions& o) { o.equilibrium->tolerance = std::nan(""); },
           [](CarryOptions& o) { o.equilibrium->iterations = 0; },
           [](CarryOptions& o) { o.equilibrium->adjoint_iterations = 0; },
           [](CarryOptions& o) { o.equilibrium->jacobian_penalty = std::nan(""); },
           [](CarryOptions& o) { o.equilibrium->adjoint_tolerance = -1; },
           [](CarryOptions& o) { o.equilibrium->corrections = -1; },
           [](CarryOptions& o) { o.equilibrium->corrections = o.equilibrium->iterations; },
           [](CarryOptions& o) { o.equilibrium->start_deviation = -1; },
           [](CarryOptions& o) { o.equilibrium->path_deviation = -1; },
           [](CarryOptions& o) { o.equilibrium->path_deviation = std::nan(""); },
           [](CarryOptions& o) {  // none of three would be under noise
             o.equilibrium->path_deviation = 0.1;
             o.equilibrium->iterations = 3;
           },
           [](CarryOptions& o) {  // of eight, six are left
             o.equilibrium->path_deviation = 0.1;
             o.equilibrium->iterations = 8;
             o.equilibrium->corrections = 6;
           },
           [](CarryOptions& o) { o.equilibrium->spectral_clip = -1; },
           [](CarryOptions& o) { o.equilibrium->radius_limit = std::nan(""); },
           [](CarryOptions& o) {
             o.equilibrium->jacobian_penalty = -1;
             o.equilibrium->radius_limit = 0.9;
           }}) {
    CarryOptions options = options4().carry;
    change(options);
    EXPECT_THROW(CarryPool{options}, OptionError);
  }
}

// ---- evaluation --------------------------------------------------------------------------------

}  // namespace
}  // namespace stillpoint::sudoku
