// Our side of bench/compare.py equilibrium_MODEL: a training step at the fixed points of fresh
// boards, as tools/sudoku makes it with --adjoint exact (30 + 30 evaluations at most), and beside
// it one of 16 unrolled refinements. On stdin and stdout:
//   DIR MODEL CHANNELS BOARDS SOLVER TOLERANCE  makes network and boards, writes both to
//                       DIR/problem.safetensors; answers with a title and the names of the forms
//   verify DIR          writes gradients, loss and counts to DIR/result.safetensors
//   FORM train CALLS    the median seconds of some calls
#include <fmt/format.h>

#include <algorithm>
#include <iostream>
#include <memory>
#include <span>
#include <sstream>
#include <string>
#include <vector>

#include "bench/peers/peer.h"
#include "engine/autograd.h"
#include "engine/io/safetensors.h"
#include "engine/ops.h"
#include "engine/optim/adamw.h"
#include "models/sudoku/carry.h"
#include "models/sudoku/equilibrium.h"
#include "models/sudoku/generator.h"

namespace stillpoint::peers {
namespace {

using sudoku::Board;

constexpr uint64_t kSeed = 1;
constexpr int64_t kUnrolled = 16;

class Contender {
 public:
  explicit Contender(std::istream& words) {
    std::string model, solver;
    int64_t channels = 0, boards = 0;
    words >> model >> channels >> boards >> solver >> options_.tolerance;
    options_.solver =
        solver == "anderson" ? sudoku::SolverKind::anderson : sudoku::SolverKind::damped;
    Philox random(kSeed);
    net_ = sudoku::make_network(
        {.model = model == "refine" ? sudoku::Model::refine : sudoku::Model::symbol,
         .channels = channels},
        random);
    for (const auto& [name, t] : net_->parameters()) first_.push_back(t.detach().clone());
    optimiser_ = std::make_unique<optim::AdamW>(
        net_->parameters(), optim::AdamWOptions{.learning_rate = 1e-3, .weight_decay = 1e-2});
    for (const auto& p : sudoku::generate({.seed = kSeed, .minimal_share = 0.7}, 0, boards)) {
      givens_.push_back(p.givens);
      solutions_.push_back(p.solution);
    }
  }

  io::NamedTensors problem() const {
    io::NamedTensors all = net_->parameters();
    all["givens"] = sudoku::digits(givens_);
    all["digits"] = sudoku::digits(solutions_);
    return all;
  }

  io::NamedTensors result() {
    io::NamedTensors found;
    const sudoku::EquilibriumReport report = fixed_points();
    found["loss"] = Tensor::full({}, loss_);
    const std::vector<float> counts = {static_cast<float>(report.iterations),
                                       static_cast<float>(report.unconverged),
                                       static_cast<float>(report.adjoint_iterations),
                                       static_cast<float>(report.adjoint_unconverged)};
    found["counts"] = Tensor::from(counts, {4});
    for (const auto& [name, t] : net_->parameters())
      if (t.grad()) found["gradient." + name] = t.grad().clone();
    reset();
    return found;
  }

  // One step; the next starts from the same weights.
  void call(bool unrolled) {
    if (unrolled) {
      unroll();
    } else {
      fixed_points();
    }
    optimiser_->step();
    reset();
  }

 private:
  sudoku::EquilibriumReport fixed_points() {
    sudoku::EquilibriumReport report;
    for_slices(sudoku::Regime::equilibrium, [&](const sudoku::Lesson& lesson, double share) {
      const sudoku::FixedPointLesson fixed =
          sudoku::learn_fixed_points(*net_, lesson, options_, random_);
      const Tensor loss = ops::affine(fixed.learned.loss, share);
      backward(loss);
      report.add(fixed, 1.0 / static_cast<double>(givens_.size()));
      loss_ += loss.item();
    });
    return report;
  }
  void unroll() {
    for_slices(sudoku::Regime::unroll, [&](const sudoku::Lesson& lesson, double share) {
      backward(ops::affine(net_->learn(lesson, random_).loss, share));
    });
  }
  void for_slices(sudoku::Regime regime, auto&& body) {
    loss_ = 0;
    const auto slice =
        static_cast<size_t>(sudoku::default_slice(net_->options.model, regime, Device::cpu));
    for (size_t begin = 0; begin < givens_.size(); begin += slice) {
      const size_t size = std::min(slice, givens_.size() - begin);
      const std::span<const Board> solutions = std::span(solutions_).subspan(begin, size);
      const std::vector<int32_t> digits = sudoku::digits(solutions).to_vector<int32_t>();
      body({.givens = std::span(givens_).subspan(begin, size),
            .h = net_->start(static_cast<int64_t>(size)),
            .digits = digits,
            .steps = kUnrolled},
           static_cast<double>(size) / static_cast<double>(givens_.size()));
    }
  }
  void reset() {
    size_t k = 0;
    for (auto [name, t] : net_->parameters()) {
      std::copy_n(first_[k].data<float>(), t.numel(), t.mutable_data<float>());
      ++k;
    }
    optimiser_->forget_gradients();
  }

  sudoku::EquilibriumOptions options_{.adjoint = sudoku::AdjointKind::exact};
  std::unique_ptr<sudoku::Network> net_;
  std::vector<Tensor> first_;
  std::unique_ptr<optim::AdamW> optimiser_;
  std::vector<Board> givens_, solutions_;
  Philox random_{kSeed};
  double loss_ = 0;
};

void answer() {
  kernels::set_num_threads(1);
  std::string folder, line;
  std::getline(std::cin, line);
  std::istringstream first(line);
  first >> folder;
  Contender contender(first);
  io::save_safetensors(folder + "/problem.safetensors", contender.problem());
  fmt::print("stillpoint, {}\nstillpoint unrolled_16\n", kernels::active_isa());
  std::fflush(stdout);
  answer_requests([&](const std::string& form, const std::string&, int calls) -> std::string {
    if (form == "verify") {
      io::save_safetensors(folder + "/result.safetensors", contender.result());
      return "written";
    }
    return fmt::format("{:.9f}", seconds(calls, [&] { contender.call(form == "unrolled_16"); }));
  });
}

}  // namespace
}  // namespace stillpoint::peers

int main() { return stillpoint::peers::serve_or_fail(stillpoint::peers::answer); }
