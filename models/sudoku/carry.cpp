#include "models/sudoku/carry.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "engine/autograd.h"
#include "engine/error.h"
#include "engine/ops.h"
#include "models/sudoku/answer.h"

namespace stillpoint::sudoku {
namespace {

// A stream of its own, far from those of the puzzles, which are numbered from 0 and from 2^63.
constexpr uint64_t kPoolStream = ~uint64_t{0};
// Of what is drawn for a slice, by the number of its first puzzle: a stream is taken once if boards
// stay for one window, which Trainer demands of networks that draw and check_options of fixed
// points.
constexpr uint64_t kDrawStreams = uint64_t{1} << 62;

void check_options(const CarryOptions& o) {
  check<OptionError>(o.boards >= 1, "carry: {} boards; wanted 1 or more", o.boards);
  check<OptionError>(o.slice >= 1, "carry: slices of {}; wanted 1 or more", o.slice);
  check<OptionError>(o.window >= 1, "carry: a window of {}; wanted 1 or more", o.window);
  check<OptionError>(o.segments >= 1, "carry: {} segments; wanted 1 or more", o.segments);
  if (o.equilibrium) {
    check<OptionError>(o.segments == 1, "carry: {} segments and fixed points; wanted 1",
                       o.segments);
    check_options(*o.equilibrium);
  }
  check<OptionError>(o.leave >= 0 && o.leave <= 1, "carry: leave {}; wanted 0 to 1", o.leave);
}

template <class T>
std::span<const T> part(const std::vector<T>& all, int64_t begin, int64_t size) {
  return std::span(all).subspan(static_cast<size_t>(begin), static_cast<size_t>(size));
}

Shape states_shape(const Network& net, int64_t boards) {
  Shape shape = net.start(1).shape();
  shape[0] = boards;
  return shape;
}

}  // namespace

const char* name(Regime regime) {
  switch (regime) {
    case Regime::carry:
      return "carry";
    case Regime::unroll:
      return "unroll";
    case Regime::equilibrium:
      return "equilibrium";
  }
  return "";
}

CarryOptions carry_options(Regime regime) {
  CarryOptions options;
  if (regime != Regime::carry) options.segments = 1;
  if (regime == Regime::equilibrium)  // what does not collapse: docs/collapse.md
    options.equilibrium = {
        .adjoint = AdjointKind::unrolled_phantom,
        .adjoint_iterations = usual_adjoint_iterations(AdjointKind::unrolled_phantom),
        .corrections = usual_corrections(AdjointKind::unrolled_phantom)};
  return options;
}

int64_t default_slice(Model model, Regime regime, Device device) {
  if (model == Model::learned_graph) return 8;
  if (device == Device::cuda) return 256;
  return regime == Regime::equilibrium ? 4 : 1;
}

Regime regime_of(const CarryOptions& options) {
  if (options.equilibrium) return Regime::equilibrium;
  return options.segments == 1 ? Regime::unroll : Regime::carry;
}

CarryPool::CarryPool(const CarryOptions& options) : options_(options) {
  check_options(options);
  const auto boards = static_cast<size_t>(options.boards);
  state_.puzzles.resize(boards);
  state_.ages.resize(boards);
  state_.fresh.resize(boards);
  givens_.resize(boards);
  solutions_.resize(boards);
  std::vector<int64_t> slots(boards);
  std::iota(slots.begin(), slots.end(), 0);
  draw(slots);
  Philox random(options.puzzles.seed, kPoolStream);
  for (int32_t& age : state_.ages) {
    age = static_cast<int32_t>(random.below(static_cast<uint32_t>(options.segments)));
  }
  state_.random = random.state();
}

CarryPool::CarryPool(const CarryOptions& options, State state, const Network& net)
    : options_(options), state_(std::move(state)) {
  check_options(options);
  const auto boards = static_cast<size_t>(options.boards);
  check<ShapeError>(state_.puzzles.size() == boards && state_.ages.size() == boards &&
                        state_.fresh.size() == boards,
                    "carry: a state of {} boards for a pool of {}", state_.puzzles.size(), boards);
  const Shape wanted = states_shape(net, options.boards);
  check<ShapeError>(!state_.states.defined() || state_.states.shape() == wanted,
                    "carry: states of shape {}; wanted {}",
                    state_.states.defined() ? to_string(state_.states.shape()) : "",
                    to_string(wanted));
  check<TypeError>(!state_.states.defined() || state_.states.dtype() == DType::f32,
                   "carry: states are not float32");
  for (const int32_t fresh : state_.fresh) {
    check<OptionError>(fresh == 0 || fresh == 1, "carry: fresh {}; wanted 0 or 1", fresh);
  }
  for (const int64_t puzzle : state_.puzzles) {
    check<OptionError>(puzzle >= 0 && puzzle < state_.next_puzzle,
                       "carry: puzzle number {}; wanted 0 to {}", puzzle, state_.next_puzzle - 1);
  }
  for (const GeneratedPuzzle& puzzle : generate(options.puzzles, state_.puzzles)) {
    givens_.push_back(puzzle.givens);
    solutions_.push_back(puzzle.solution);
  }
}

// Puts the generator's next puzzles into the slots.
void CarryPool::draw(const std::vector<int64_t>& slots) {
  constexpr int64_t kAhead = 128;
  const int64_t missing = std::ssize(slots) - std::ssize(ahead_);
  if (missing > 0) {
    const int64_t count = options_.puzzles.hard_share > 0 ? std::max(missing, kAhead) : missing;
    const auto more = generate(options_.puzzles, state_.next_puzzle + std::ssize(ahead_), count);
    ahead_.insert(ahead_.end(), more.begin(), more.end());
  }
  for (const int64_t k : slots) {
    const auto slot = static_cast<size_t>(k);
    givens_[slot] = ahead_.front().givens;
    solutions_[slot] = ahead_.front().solution;
    ahead_.pop_front();
    state_.puzzles[slot] = state_.next_puzzle++;
    state_.ages[slot] = 0;
    state_.fresh[slot] = 1;
  }
}

// The carried states, where a board is fresh the start of the network, which learns from it.
Tensor CarryPool::window_start(const Network& net, int64_t begin, int64_t size) const {
  const auto fresh = part(state_.fresh, begin, size);
  const Shape shape{size, state_.states.dim(1), state_.states.dim(2)};
  Tensor carried = state_.states.alias(shape, begin * shape[1] * shape[2]);
  const auto starting = std::count(fresh.begin(), fresh.end(), 1);
  if (starting == 0) return carried;
  if (starting == size) return net.start(size);
  std::vector<float> from_start;
  for (const int32_t f : fresh)
    from_start.insert(from_start.end(), static_cast<size_t>(shape[1]), static_cast<float>(f));
  const Tensor start = Tensor::from(from_start, {size, shape[1], 1}).to(carried.device());
  return ops::add(ops::mul(net.start(size), start),
                  ops::mul(carried, ops::affine(start, -1.0, 1.0)));
}

// One slice through one window, or to its fixed points, and back. Says what to add to the means and
// to the gradients of the network.
AfterSlice CarryPool::window(const Network& net, int64_t begin, int64_t size, CarryReport& report,
                             std::span<char> solved) {
  const std::vector<int32_t> wanted = digits(part(solutions_, begin, size)).to_vector<int32_t>();
  const Lesson lesson{.givens = part(givens_, begin, size),
                      .h = window_start(net, begin, size),
                      .digits = wanted,
                      .steps = options_.window};
  Philox random(options_.puzzles.seed,
                kDrawStreams + static_cast<uint64_t>(state_.puzzles[static_cast<size_t>(begin)]));
  FixedPointLesson fixed;
  if (options_.equilibrium) fixed = learn_fixed_points(net, lesson, *options_.equilibrium, random);
  const Learned learned =
      options_.equilibrium ? std::exchange(fixed.learned, {}) : net.learn(lesson, random);
  const auto boards = static_cast<double>(options_.boards);
  const double share = static_cast<double>(size) / boards;
  const std::vector<LeafGradient> gradients = leaf_gradients(ops::affine(learned.loss, share));
  const Shape& shape = learned.h.shape();
  state_.states.alias(shape, begin * shape[1] * shape[2]).assign(learned.h);
  const auto answers = read_answers(learned.logits, lesson.givens);
  for (size_t b = 0; b < answers.size(); ++b) {
    const size_t slot = static_cast<size_t>(begin) + b;
    solved[slot] = answers[b].board == solutions_[slot];
  }
  return [this, &report, fixed, boards, share, mean = learned.mean, gradients] {
    add_gradients(gradients);
    report.loss += mean * share;
    if (!options_.equilibrium) return;
    report.equilibrium.add(fixed, 1 / boards);
    report.equilibrium.penalty += fixed.penalty * share;
  };
}

CarryReport CarryPool::step(const Network& net, const std::function<void()>& after_slice) {
  if (!state_.states.defined()) {
    state_.states = Tensor::zeros(states_shape(net, options_.boards), {.device = net.device()});
  }
  CarryReport report;
  std::vector<char> solved(static_cast<size_t>(options_.boards));
  for_slices(options_.boards, options_.slice, net.device(), [&](int64_t begin, int64_t size) {
    return [&after_slice, add = window(net, begin, size, report, solved)] {
      add();
      if (after_slice) after_slice();
    };
  });
  Philox random = Philox::from_state(state_.random);
  std::vector<int64_t> leaving;
  for (size_t slot = 0; slot < solved.size(); ++slot) {
    const bool lucky = random.uniform() < options_.leave;
    report.solved += solved[slot];
    state_.fresh[slot] = 0;
    if (++state_.ages[slot] >= options_.segments || (solved[slot] != 0 && lucky)) {
      leaving.push_back(static_cast<int64_t>(slot));
    }
  }
  state_.random = random.state();
  draw(leaving);
  report.replaced = static_cast<int64_t>(leaving.size());
  return report;
}

}  // namespace stillpoint::sudoku
