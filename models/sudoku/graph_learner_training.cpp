// GraphLearner: how it learns whom to draw.
#include <algorithm>
#include <cmath>
#include <vector>

#include "engine/autograd.h"
#include "engine/sampling.h"
#include "engine/stochastic/straight_through.h"
#include "kernels/common/parallel.h"
#include "models/sudoku/drawn_graph.h"
#include "models/sudoku/graph_learner.h"

namespace stillpoint::sudoku {
namespace {

constexpr int64_t kRowsATime = 32;

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

// Whether all cells have the same state.
bool alike(const Tensor& h) {
  const std::vector<float> values = h.to_vector<float>();
  const int64_t channels = h.dim(-1);
  for (size_t e = 0; e < values.size(); ++e)
    if (values[e] != values[e % static_cast<size_t>(channels)]) return false;
  return true;
}

Tensor log_softmax(const Tensor& x) {
  const Tensor below = ops::sub(x, ops::max(x.detach(), -1, ops::KeepDim::yes));
  return ops::sub(below, ops::log(ops::sum(ops::exp(below), -1, ops::KeepDim::yes)));
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
  return ops::affine(ops::sum(ops::mul(log_softmax(logits), one_hot), -1), -1);
}

int64_t below(Philox& random, int64_t bound) { return random.below(static_cast<uint32_t>(bound)); }

// What the mean of the cells' entropies -sum p log p weighs, p = softmax(scores).
Tensor entropy_bonus(const Tensor& scores, double weight) {
  const int64_t rows = scores.numel() / scores.dim(-1);
  return ops::affine(ops::sum(ops::mul(ops::softmax(scores), log_softmax(scores))),
                     weight / static_cast<double>(rows));
}

// The mean over cells of the variance of their scores, their own included.
Tensor spread(const Tensor& scores) {
  const Tensor mean =
      ops::affine(ops::sum(scores, -1, ops::KeepDim::yes), 1 / static_cast<double>(scores.dim(-1)));
  const Tensor off = ops::sub(scores, mean);
  return ops::mean(ops::mul(off, off));
}

}  // namespace

GraphLearner::Drawn GraphLearner::draw(const Attention& a, const Tensor& scores, int64_t draws,
                                       Philox& random) const {
  const LearnedGraphOptions& o = options.learned;
  if (o.law == Law::k_subset) {
    const auto drawn = sample(scores, KSubset{o.neighbours, draws}, random);
    return {drawn.indices, score(drawn)};
  }
  const Attention others = of_others(a);
  const Tensor q = repeated(others.q, draws), k = repeated(others.k, draws);
  // The columns that rule out the cell itself do not count for the scale.
  const SampleOptions scaled{
      .temperature = std::sqrt(static_cast<double>(o.width) / static_cast<double>(q.dim(2)))};
  if (o.law == Law::with_replacement) {
    const auto drawn = sample(q, k, WithReplacement{o.neighbours}, random, scaled);
    return {drawn.indices, score(drawn)};
  }
  const auto drawn = sample(q, k, PlackettLuce{o.neighbours}, random, scaled);
  const bool in_order = o.law == Law::ordered_plackett_luce;
  return {drawn.indices, in_order ? ordered_score(drawn) : set_score(drawn)};
}

// g . relu(W_1 h_i + b_1 + W_2 h_j), g being the cost's gradient in the sum that cell i hears.
Tensor GraphLearner::edge_slopes(const Tensor& h, const Tensor& puzzles,
                                 std::span<const int32_t> digits, int64_t draws) const {
  const int64_t runs = h.dim(0), cells = h.dim(1), channels = h.dim(2);
  const Unpacked p = unpacked(puzzles);
  const Tensor flat = ops::reshape(h.detach(), {1, runs * cells, channels});
  const Tensor own = refiner.receiver(flat).detach(), other = refiner.sender(flat).detach();
  const Tensor heard = ops::message_sum(own, other, p.graph).detach().set_requires_grad();
  Tensor slope;
  {
    const WithGrad with_grad;
    const Tensor next = ops::gru_cell(ops::add(refiner.given(p.digits), refiner.message(heard)),
                                      refiner.state(flat), flat);
    const Tensor costs = surprises(
        ops::reshape(logits(next), {runs, cells, options.geometry.side()}), digits, draws);
    slope = vjp(ops::sum(costs), heard, Tensor::full({}, 1.0, heard.options()));
  }
  const std::vector<float> own_of = own.to_vector<float>(), other_of = other.to_vector<float>(),
                           slope_of = slope.to_vector<float>();
  std::vector<float> slopes(static_cast<size_t>(runs * cells * cells));
  kernels::parallel_for(runs * cells, kRowsATime, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const float *mine = own_of.data() + row * channels, *by = slope_of.data() + row * channels;
      for (int64_t j = 0; j < cells; ++j) {
        const float* theirs = other_of.data() + (row / cells * cells + j) * channels;
        float sum = 0;
        for (int64_t c = 0; c < channels; ++c) sum += by[c] * std::max(mine[c] + theirs[c], 0.f);
        slopes[static_cast<size_t>(row * cells + j)] = sum;
      }
    }
  });
  return Tensor::from(slopes, {runs, cells, cells}).to(h.device());
}

Tensor GraphLearner::encode_drawn(const Board& givens, int64_t graphs, Philox& random) const {
  const Attention a = attention({&givens, 1});
  const std::vector<Board> boards(static_cast<size_t>(graphs), givens);
  Tensor by;
  if (options.learned.law == Law::k_subset) by = ops::add(scores(a), self_score);
  return packed(values_of(boards), draw(a, by, graphs, random).indices);
}

Learned GraphLearner::learn(const Lesson& lesson, Philox& random) const {
  const LearnedGraphOptions& o = options.learned;
  check<OptionError>(!lesson.givens.empty(), "learned graph: no boards; wanted 1 or more");
  // From cells that are all alike every cell hears the same, whomever it drew.
  const bool late = alike(lesson.h);
  check<OptionError>(lesson.steps > late,
                     "learned graph: {} refinements; wanted 2 or more where all cells start alike, "
                     "since the first tells nothing",
                     lesson.steps);
  const Attention a = attention(lesson.givens);
  const bool straight = o.estimator == Estimator::straight_through;
  Tensor all_scores, by;  // `by`: of others
  if (straight || o.law == Law::k_subset || o.spread_penalty > 0) {
    all_scores = scores(a);
    by = ops::add(all_scores, self_score);
  }
  const Drawn drawn = draw(a, by, o.draws, random);
  const int64_t boards = a.q.dim(0), cells = a.q.dim(1);
  std::vector<int32_t> values;  // of the runs
  for (const Board& board : lesson.givens) {
    const std::vector<int32_t> one = values_of({&board, 1});
    for (int64_t d = 0; d < o.draws; ++d) values.insert(values.end(), one.begin(), one.end());
  }
  const Tensor start = repeated(lesson.h, o.draws), puzzles = packed(values, drawn.indices);
  const Tensor states = trajectory(start, puzzles, lesson.steps);
  const Tensor all = logits(states);
  const Tensor costs = surprises(all, lesson.digits, o.draws);  // [steps, runs, cells]
  const int64_t last = lesson.steps - 1;
  Learned out;
  if (straight) {
    // One refinement stands for all. In the first ones only givens have something to tell, in later
    // ones all cells have.
    const int64_t t = late ? 1 + below(random, last) : below(random, lesson.steps);
    const Tensor before =
        t == 0 ? start : ops::reshape(ops::rows(states.detach(), t - 1, 1), start.shape());
    const Tensor slopes = edge_slopes(before, puzzles, lesson.digits, o.draws);
    const Tensor of_runs = repeated(by, o.draws);
    const Tensor graph =
        stochastic::straight_through(stochastic::draw_counts(drawn.indices, cells),
                                     stochastic::expected_counts(of_runs, o.neighbours));
    const double share = 1 / static_cast<double>(boards * o.draws * cells);
    out.loss = ops::add(ops::mean(costs), ops::affine(ops::sum(ops::mul(graph, slopes)), share));
    if (o.entropy > 0) out.loss = ops::add(out.loss, entropy_bonus(of_runs, o.entropy));
  } else {
    const bool all_costs = o.credit == Credit::all;
    const Tensor reach = all_costs ? Tensor() : stochastic::hops(drawn.indices, last, late ? 1 : 0);
    out.loss = stochastic::surrogate_loss(
        costs, {{.log_prob = drawn.log_prob, .hops = reach}},
        {.baseline = o.baseline, .draws = o.draws, .entropy = o.entropy, .discount = o.discount});
  }
  if (o.spread_penalty > 0)
    out.loss = ops::add(out.loss, ops::affine(spread(all_scores), o.spread_penalty));
  out.mean = ops::mean(costs.detach()).item();
  out.h = ops::reshape(first_draws(ops::rows(states, last, 1).detach(), boards, o.draws),
                       lesson.h.shape());
  out.logits = ops::reshape(first_draws(ops::rows(all, last, 1).detach(), boards, o.draws),
                            {boards, cells, all.dim(-1)});
  return out;
}

}  // namespace stillpoint::sudoku
