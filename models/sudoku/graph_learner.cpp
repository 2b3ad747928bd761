#include "models/sudoku/graph_learner.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "engine/autograd.h"
#include "engine/sampling.h"
#include "models/sudoku/drawn_graph.h"

namespace stillpoint::sudoku {
namespace {

// Attention is drawn from at a width of up to 128.
constexpr int64_t kMostColumns = 128;
constexpr int64_t kMostDraws = 4096;  // for a board
// The score of a cell for itself: its exponential is 0 in float.
constexpr double kNever = -1e4;

NetworkOptions checked(NetworkOptions o) {
  if (o.geometry.box < kMinBox || o.geometry.box > kMaxBox) return o;  // Network refuses it
  LearnedGraphOptions& l = o.learned;
  const int64_t cells = o.geometry.cells();
  check<OptionError>(cells < kMostColumns,
                     "learned graph: {} cells; wanted fewer than {}: a box size of 2 or 3", cells,
                     kMostColumns);
  if (l.neighbours == 0) l.neighbours = std::ssize(peers(o.geometry)) / cells;
  check<OptionError>(l.neighbours >= 1 && l.neighbours < cells && l.neighbours <= 64,
                     "learned graph: {} neighbours; wanted 1 to {}", l.neighbours,
                     std::min<int64_t>(cells - 1, 64));
  check<OptionError>(l.width >= 1 && l.width + cells <= kMostColumns,
                     "learned graph: tokens of width {} for {} cells; wanted at most {} together",
                     l.width, cells, kMostColumns);
  check<OptionError>(l.heads >= 1 && l.width % l.heads == 0,
                     "learned graph: tokens of width {}; wanted a multiple of {}, the number of "
                     "heads",
                     l.width, l.heads);
  check<OptionError>(l.draws >= 1 && l.draws <= kMostDraws,
                     "learned graph: {} draws; wanted 1 to {}", l.draws, kMostDraws);
  check<OptionError>(l.estimator == Estimator::straight_through ||
                         l.baseline != Baseline::others_of_board || l.draws >= 2,
                     "learned graph: a baseline of the other draws of a board, but {} draw; wanted "
                     "2 or more",
                     l.draws);
  check<OptionError>(l.discount > 0 && l.discount <= 1,
                     "learned graph: a discount of {}; wanted above 0 and up to 1", l.discount);
  check<OptionError>(std::isfinite(l.entropy) && l.entropy >= 0,
                     "learned graph: an entropy bonus of {}; wanted 0 or more", l.entropy);
  check<OptionError>(std::isfinite(l.spread_penalty) && l.spread_penalty >= 0,
                     "learned graph: a spread penalty of {}; wanted 0 or more", l.spread_penalty);
  return o;
}

Tensor identity(int64_t size, double value) {
  std::vector<float> values(static_cast<size_t>(size * size));
  for (int64_t i = 0; i < size; ++i)
    values[static_cast<size_t>(i * size + i)] = static_cast<float>(value);
  return Tensor::from(values, {size, size});
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
  transformer = nn::Transformer({.channels = o.learned.width,
                                 .heads = o.learned.heads,
                                 .layers = o.learned.layers,
                                 .tying = o.learned.tying,
                                 .top_repeats = o.learned.repeats},
                                random);
  const double root = std::sqrt(static_cast<double>(o.learned.width));
  self_query = identity(o.geometry.cells(), kNever * root);
  self_key = identity(o.geometry.cells(), 1);
  self_score = identity(o.geometry.cells(), kNever);
}

void GraphLearner::move_to(Device device) {
  to_device(*this, device);
  refiner.move_to(device);
  self_query = self_query.to(device);
  self_key = self_key.to(device);
  self_score = self_score.to(device);
}

GraphLearner::Attention GraphLearner::attention(std::span<const Board> givens) const {
  check_boards(givens);
  const auto boards = static_cast<int64_t>(givens.size());
  const int64_t cells = options.geometry.cells();
  const Tensor digits = Tensor::from(values_of(givens), {boards, cells}).to(device());
  const Tensor x = norm(transformer(ops::add(digit(digits), position.table)));
  return {query(x), key(x)};
}

GraphLearner::Attention GraphLearner::of_others(const Attention& a) const {
  const auto with = [](const Tensor& part, const Tensor& self) {
    return ops::concat({part, ops::broadcast_to(self, {part.dim(0), self.dim(0), self.dim(1)})});
  };
  return {with(a.q, self_query), with(a.k, self_key)};
}

Tensor GraphLearner::scores(const Attention& a) const {
  return ops::affine(attention_scores(a.q, a.k),
                     1 / std::sqrt(static_cast<double>(options.learned.width)));
}

Tensor GraphLearner::most_attended(std::span<const Board> givens) const {
  const NoGrad no_grad;
  const Attention a = of_others(attention(givens));
  return sample(a.q, a.k, TopScores{options.learned.neighbours}).indices;
}

Tensor GraphLearner::neighbours(std::span<const Board> givens) const {
  Tensor most = most_attended(givens);
  (void)complete(most);
  return most;
}

Tensor GraphLearner::encode(std::span<const Board> givens) const {
  return packed(values_of(givens), most_attended(givens));  // checks them
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

GraphQuality graph_quality(const GraphLearner& net, std::span<const Board> givens) {
  check<OptionError>(!givens.empty(), "graph_quality: no boards; wanted 1 or more");
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
