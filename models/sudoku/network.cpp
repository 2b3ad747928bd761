#include "models/sudoku/network.h"

#include <vector>

#include "engine/error.h"
#include "models/sudoku/graph_learner.h"
#include "models/sudoku/refine_net.h"
#include "models/sudoku/symbol_net.h"

namespace stillpoint::sudoku {
namespace {

void check_same_size(std::span<const Board> boards, Geometry wanted, const char* what) {
  for (const Board& board : boards) {
    check<ShapeError>(board.geometry == wanted, "{}: a board of box size {}; wanted {}", what,
                      board.geometry.box, wanted.box);
  }
}

// The digits of every board [boards, cells] as the targets of every refinement: [steps, boards,
// cells].
Tensor repeated(std::span<const int32_t> digits, int64_t steps, int64_t boards) {
  std::vector<int32_t> all;
  for (int64_t t = 0; t < steps; ++t) all.insert(all.end(), digits.begin(), digits.end());
  return Tensor::from(all, {steps, boards, std::ssize(digits) / boards});
}

}  // namespace

const char* name(Model model) {
  switch (model) {
    case Model::symbol:
      return "symbol";
    case Model::refine:
      return "refine";
    case Model::learned_graph:
      break;
  }
  return "learned-graph";
}

const char* name(Wiring wiring) {
  switch (wiring) {
    case Wiring::rules:
      return "rules";
    case Wiring::random:
      return "random";
    case Wiring::complete:
      break;
  }
  return "complete";
}

const char* name(Precision precision) { return precision == Precision::bf16 ? "bf16" : "f32"; }

const char* name(Law law) {
  switch (law) {
    case Law::plackett_luce:
      return "plackett-luce";
    case Law::ordered_plackett_luce:
      return "ordered-plackett-luce";
    case Law::with_replacement:
      return "with-replacement";
    case Law::k_subset:
      break;
  }
  return "k-subset";
}

const char* name(Estimator estimator) {
  return estimator == Estimator::score ? "score" : "straight-through";
}

const char* name(Credit credit) { return credit == Credit::all ? "all" : "downstream"; }

const char* name(Baseline baseline) {
  switch (baseline) {
    case Baseline::none:
      return "none";
    case Baseline::others_in_batch:
      return "batch";
    case Baseline::others_of_board:
      break;
  }
  return "board";
}

Network::Network(const NetworkOptions& o) : options(o) {
  check<ShapeError>(o.geometry.box >= kMinBox && o.geometry.box <= kMaxBox,
                    "network: box size {}; wanted {} to {}", o.geometry.box, kMinBox, kMaxBox);
  check<OptionError>(o.channels >= 1, "network: {} channels; wanted 1 or more", o.channels);
}

void Network::check_boards(std::span<const Board> boards) const {
  check_same_size(boards, options.geometry, "network");
}

Tensor Network::refine(const Tensor& h, const Tensor& puzzles, int64_t steps) const {
  check<OptionError>(steps >= 0, "refine: {} steps; wanted 0 or more", steps);
  if (steps == 0) return h;
  if (options.form == Form::fused) return refine_fused(h, puzzles, steps, ops::States::last);
  Tensor next = h;
  for (int64_t t = 0; t < steps; ++t) next = refine_once(next, puzzles);
  return next;
}

Tensor Network::trajectory(const Tensor& h, const Tensor& puzzles, int64_t steps) const {
  check<OptionError>(steps >= 1, "trajectory: {} steps; wanted 1 or more", steps);
  if (options.form == Form::fused) return refine_fused(h, puzzles, steps, ops::States::all);
  std::vector<Tensor> states;
  Tensor next = h;
  for (int64_t t = 0; t < steps; ++t) {
    next = refine_once(next, puzzles);
    states.push_back(ops::reshape(next, {1, next.numel()}));
  }
  Shape shape = h.shape();
  shape.insert(shape.begin(), steps);
  return ops::reshape(ops::concat(states), shape);
}

Learned Network::learn(const Lesson& lesson, Philox& /*random*/) const {
  const Tensor states = trajectory(lesson.h, encode(lesson.givens), lesson.steps);
  const Tensor all = logits(states);
  const Tensor loss =
      ops::cross_entropy(all, repeated(lesson.digits, lesson.steps, lesson.h.dim(0)).to(device()));
  const auto last = [&](const Tensor& steps) {
    const Shape shape(steps.shape().begin() + 1, steps.shape().end());
    return steps.alias(shape, (lesson.steps - 1) * (steps.numel() / lesson.steps));
  };
  return {.loss = loss, .mean = loss.item(), .h = last(states), .logits = last(all)};
}

std::unique_ptr<Network> make_network(const NetworkOptions& options, Philox& random) {
  if (options.model == Model::learned_graph) return std::make_unique<GraphLearner>(options, random);
  if (options.model == Model::refine) return std::make_unique<RefineNet>(options, random);
  return std::make_unique<SymbolNet>(options, random);
}

Tensor digits(std::span<const Board> boards, Device device) {
  const Geometry g = boards.empty() ? Geometry{} : boards[0].geometry;
  check_same_size(boards, g, "digits");
  std::vector<int32_t> values;
  for (const Board& board : boards) {
    for (int cell = 0; cell < g.cells(); ++cell) values.push_back(board[cell] - 1);
  }
  return Tensor::from(values, {static_cast<int64_t>(boards.size()), g.cells()}).to(device);
}

}  // namespace stillpoint::sudoku
