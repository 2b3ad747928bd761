#include "models/sudoku/graph_learner.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "engine/autograd.h"
#include "engine/sampling.h"

namespace stillpoint::sudoku {
namespace {

// Attention is drawn from at a width of up to 128.
constexpr int64_t kMostColumns = 128;
// The score of a cell for itself: its exponential is 0 in float.
constexpr double kNever = -1e4;

NetworkOptions checked(NetworkOptions o) {
  if (o.geometry.box < kMinBox || o.geometry.box > kMaxBox) return o;  // Network refuses it
  LearnedGraphOptions& l = o.learned;
  const int64_t cells = o.geometry.cells();
  if (l.neighbours == 0) l.neighbours = std::ssize(peers(o.geometry)) / cells;
  check<OptionError>(l.neighbours >= 1 && l.neighbours < cells && l.neighbours <= 64,
                     "learned graph: {} neighbours; wanted 1 to {}", l.neighbours,
                     std::min<int64_t>(cells - 1, 64));
  check<OptionError>(l.width >= 1 && l.width + cells <= kMostColumns,
                     "learned graph: tokens of width {} for {} cells; wanted at most {} together",
                     l.width, cells, kMostColumns);
  check<OptionError>(l.layers >= 0, "learned graph: {} layers; wanted 0 or more", l.layers);
  check<OptionError>(l.draws >= 1, "learned graph: {} draws; wanted 1 or more", l.draws);
  check<OptionError>(l.baseline != Baseline::others_of_board || l.draws >= 2,
                     "learned graph: a baseline of the other draws of a board, but {} draw; wanted "
                     "2 or more",
                     l.draws);
  check<OptionError>(l.discount > 0 && l.discount <= 1,
                     "learned graph: a discount of {}; wanted above 0 and up to 1", l.discount);
  check<OptionError>(std::isfinite(l.entropy) && l.entropy >= 0,
                     "learned graph: an entropy bonus of {}; wanted 0 or more", l.entropy);
  return o;
}

Tensor identity(int64_t size, double value) {
  std::vector<float> values(static_cast<size_t>(size * size));
  for (int64_t i = 0; i < size; ++i)
    values[static_cast<size_t>(i * size + i)] = static_cast<float>(value);
  return Tensor::from(values, {size, size});
}

std::vector<int32_t> values_of(std::span<const Board> boards) {
  std::vector<int32_t> values;
  for (const Board& board : boards)
    for (int cell = 0; cell < board.geometry.cells(); ++cell) values.push_back(board[cell]);
  return values;
}

// [boards, cells] and [boards, cells, k] -> [boards, cells, 1 + k].
Tensor packed(const std::vector<int32_t>& digits, const Tensor& neighbours) {
  const std::vector<int32_t> lists = neighbours.to_vector<int32_t>();
  const int64_t k = neighbours.dim(2);
  std::vector<int32_t> all;
  for (size_t cell = 0; cell < digits.size(); ++cell) {
    all.push_back(digits[cell]);
    const auto first = lists.begin() + static_cast<ptrdiff_t>(cell) * k;
    check<Error>(std::all_of(first, first + k, [](int32_t j) { return j >= 0; }),
                 "learned graph: the attention is not finite");
    all.insert(all.end(), first, first + k);
  }
  return Tensor::from(all, {neighbours.dim(0), neighbours.dim(1), 1 + k}).to(neighbours.device());
}

// What packed made, as the cells of all boards in one graph, which has edges within boards alone.
struct Unpacked {
  Tensor digits;  // [1, boards cells]
  Graph graph;    // [boards cells, boards cells]
};
Unpacked unpacked(const Tensor& puzzles) {
  const int64_t boards = puzzles.dim(0), cells = puzzles.dim(1), k = puzzles.dim(2) - 1;
  const std::vector<int32_t> all = puzzles.to_vector<int32_t>();
  std::vector<int32_t> digits, neighbours;
  for (auto cell = all.begin(); cell != all.end(); cell += 1 + k) {
    digits.push_back(*cell);
    neighbours.insert(neighbours.end(), cell + 1, cell + 1 + k);
  }
  const Device device = puzzles.device();
  const Tensor lists = Tensor::from(neighbours, {boards, cells, k}).to(device);
  return {Tensor::from(digits, {1, boards * cells}).to(device),
          Graph::from_neighbours(lists, cells)};
}

// Every board's rows `draws` times in a row: [boards, n, c] -> [boards draws, n, c].
Tensor repeated(const Tensor& x, int64_t draws) {
  if (draws == 1) return x;
  std::vector<int32_t> boards;
  for (int64_t r = 0; r < x.dim(0) * draws; ++r) boards.push_back(static_cast<int32_t>(r / draws));
  const Tensor index = Tensor::from(boards, {std::ssize(boards)}).to(x.device());
  const Tensor flat = ops::reshape(x, {x.dim(0), x.dim(1) * x.dim(2)});
  return ops::reshape(ops::embedding(flat, index), {x.dim(0) * draws, x.dim(1), x.dim(2)});
}

// The first draw of every board, rows [boards draws, n, c] -> [boards, n, c]; no gradient.
Tensor first_draws(const Tensor& x, int64_t boards, int64_t draws) {
  const NoGrad no_grad;
  std::vector<int32_t> rows;
  for (int64_t b = 0; b < boards; ++b) rows.push_back(static_cast<int32_t>(b * draws));
  const Tensor flat = ops::reshape(x, {boards * draws, -1});
  const Tensor index = Tensor::from(rows, {boards}).to(x.device());
  return ops::embedding(flat, index);
}

struct Drawn {
  Tensor indices, log_prob;  // [runs, cells, k], [runs, cells]
};
Drawn draw(const Tensor& q, const Tensor& k, const LearnedGraphOptions& o,
           const SampleOptions& options, Philox& random) {
  if (o.law == Law::with_replacement) {
    const auto drawn = sample(q, k, WithReplacement{o.neighbours}, random, options);
    return {drawn.indices, score(drawn)};
  }
  if (o.law == Law::k_subset) {
    const auto drawn = sample(q, k, KSubset{o.neighbours}, random, options);
    return {drawn.indices, score(drawn)};
  }
  const auto drawn = sample(q, k, PlackettLuce{o.neighbours}, random, options);
  const bool in_order = o.law == Law::ordered_plackett_luce;
  return {drawn.indices, in_order ? ordered_score(drawn) : set_score(drawn)};
}

// Whether all cells have the same state.
bool alike(const Tensor& h) {
  const std::vector<float> values = h.to_vector<float>();
  const int64_t channels = h.dim(-1);
  for (size_t e = 0; e < values.size(); ++e)
    if (values[e] != values[e % static_cast<size_t>(channels)]) return false;
  return true;
}

// -log softmax(logits)[digit], cell by cell: [..., cells, side] -> [..., cells].
Tensor surprises(const Tensor& logits, std::span<const int32_t> digits, int64_t draws) {
  const int64_t side = logits.dim(-1), cells = logits.dim(-2), rows = logits.numel() / side;
  std::vector<float> wanted(static_cast<size_t>(rows * side));
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t runs = std::ssize(digits) / cells * draws;
    const int64_t board = row / cells % runs / draws;
    const int32_t digit = digits[static_cast<size_t>(board * cells + row % cells)];
    wanted[static_cast<size_t>(row * side + digit)] = 1;
  }
  const Tensor one_hot = Tensor::from(wanted, logits.shape()).to(logits.device());
  const Tensor below = ops::sub(logits, ops::max(logits.detach(), -1, ops::KeepDim::yes));
  return ops::sub(ops::log(ops::sum(ops::exp(below), -1)), ops::sum(ops::mul(below, one_hot), -1));
}

}  // namespace

GraphLearner::GraphLearner(const NetworkOptions& o, Philox& random)
    : Network(checked(o)),
      digit(o.geometry.side() + 1, o.learned.width, random),
      position(o.geometry.cells(), o.learned.width, random),
      norm(o.learned.width),
      query(o.learned.width, o.learned.width, random),
      key(o.learned.width, o.learned.width, random),
      refiner(o, random) {
  // All boards start with the same attention: what depends on digits is learned.
  digit.table.fill(0);
  for (int64_t l = 0; l < o.learned.layers; ++l)
    blocks.emplace_back(o.learned.width, o.learned.heads, random);
  const double root = std::sqrt(static_cast<double>(o.learned.width));
  self_query = identity(o.geometry.cells(), kNever * root);
  self_key = identity(o.geometry.cells(), 1);
}

void GraphLearner::move_to(Device device) {
  to_device(*this, device);
  refiner.move_to(device);
  self_query = self_query.to(device);
  self_key = self_key.to(device);
}

GraphLearner::Attention GraphLearner::attention(std::span<const Board> givens) const {
  check_boards(givens);
  const auto boards = static_cast<int64_t>(givens.size());
  const int64_t cells = options.geometry.cells();
  const Tensor digits = Tensor::from(values_of(givens), {boards, cells}).to(device());
  Tensor x = ops::add(digit(digits), position.table);
  for (const nn::TransformerBlock& block : blocks) x = block(x);
  x = norm(x);
  const auto with_self = [&](const Tensor& part, const Tensor& self) {
    return ops::concat({part, ops::broadcast_to(self, {boards, cells, cells})});
  };
  return {with_self(query(x), self_query), with_self(key(x), self_key)};
}

Tensor GraphLearner::neighbours(std::span<const Board> givens) const {
  const NoGrad no_grad;
  const Attention a = attention(givens);
  return sample(a.q, a.k, TopScores{options.learned.neighbours}).indices;
}

Tensor GraphLearner::encode(std::span<const Board> givens) const {
  return packed(values_of(givens), neighbours(givens));
}

Tensor GraphLearner::refined(const Tensor& h, const Tensor& puzzles,
                             const ops::RefineOptions& how) const {
  const Unpacked p = unpacked(puzzles);
  const Tensor flat = ops::reshape(h, {1, h.dim(0) * h.dim(1), h.dim(2)});
  const Tensor out = ops::refine(flat, refiner.given(p.digits), p.graph, refiner.weights(), how);
  Shape shape = h.shape();
  if (how.keep == ops::States::all) shape.insert(shape.begin(), how.steps);
  return ops::reshape(out, shape);
}

Tensor GraphLearner::refine_once(const Tensor& h, const Tensor& puzzles) const {
  return refined(h, puzzles,
                 {.steps = 1, .keep = ops::States::last, .form = ops::RefineForm::composed});
}

Tensor GraphLearner::refine_fused(const Tensor& h, const Tensor& puzzles, int64_t steps,
                                  ops::States keep) const {
  return refined(h, puzzles, {.steps = steps, .keep = keep});
}

Learned GraphLearner::learn(const Lesson& lesson, Philox& random) const {
  const LearnedGraphOptions& o = options.learned;
  const Attention a = attention(lesson.givens);
  // The columns that rule out the cell itself do not count for the scale.
  const double temperature =
      std::sqrt(static_cast<double>(o.width) / static_cast<double>(a.q.dim(2)));
  const Drawn drawn =
      draw(repeated(a.q, o.draws), repeated(a.k, o.draws), o, {.temperature = temperature}, random);
  const int64_t boards = a.q.dim(0), cells = a.q.dim(1);
  std::vector<int32_t> values;  // of the runs
  for (const Board& board : lesson.givens) {
    const std::vector<int32_t> one = values_of({&board, 1});
    for (int64_t d = 0; d < o.draws; ++d) values.insert(values.end(), one.begin(), one.end());
  }
  const Tensor states =
      trajectory(repeated(lesson.h, o.draws), packed(values, drawn.indices), lesson.steps);
  const Tensor all = logits(states);
  const Tensor costs = surprises(all, lesson.digits, o.draws);  // [steps, runs, cells]
  // From cells that are all alike every cell hears the same, whomever it drew.
  const int64_t late = alike(lesson.h) ? 1 : 0;
  const Tensor reach = stochastic::hops(drawn.indices, lesson.steps - 1, late);
  const int64_t last = lesson.steps - 1;
  Learned out;
  out.loss = stochastic::surrogate_loss(
      costs, {{.log_prob = drawn.log_prob, .hops = reach}},
      {.baseline = o.baseline, .draws = o.draws, .entropy = o.entropy, .discount = o.discount});
  out.mean = ops::mean(costs.detach()).item();
  out.h = ops::reshape(first_draws(ops::rows(states, last, 1).detach(), boards, o.draws),
                       lesson.h.shape());
  out.logits = ops::reshape(first_draws(ops::rows(all, last, 1).detach(), boards, o.draws),
                            {boards, cells, all.dim(-1)});
  return out;
}

GraphQuality graph_quality(const GraphLearner& net, std::span<const Board> givens) {
  const Geometry geometry = net.options.geometry;
  const auto cells = static_cast<size_t>(geometry.cells());
  const size_t k = static_cast<size_t>(net.options.learned.neighbours);
  const std::vector<int32_t> lists = net.neighbours(givens).to_vector<int32_t>();
  std::vector<double> boards_with(cells * cells);
  double right = 0;
  for (size_t e = 0; e < lists.size(); ++e) {
    const size_t cell = e / k % cells;
    right += geometry.same_unit(static_cast<int>(cell), lists[e]);
    boards_with[cell * cells + static_cast<size_t>(lists[e])] += 1;
  }
  const auto boards = static_cast<double>(givens.size()), edges = static_cast<double>(lists.size());
  double pairs = 0;
  for (double& n : boards_with) {
    pairs += n * (n - 1);
    n /= boards;
  }
  return {.precision = right / edges,
          .recall = right / (boards * static_cast<double>(peers(geometry).size())),
          .stability = boards > 1 ? pairs / (edges * (boards - 1)) : 1,
          .edges = std::move(boards_with)};
}

}  // namespace stillpoint::sudoku
