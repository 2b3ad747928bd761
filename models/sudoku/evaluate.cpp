#include "models/sudoku/evaluate.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "engine/autograd.h"
#include "engine/error.h"
#include "engine/random.h"
#include "models/sudoku/answer.h"
#include "models/sudoku/graph_learner.h"

namespace stillpoint::sudoku {
namespace {

void check_arguments(const Network& net, std::span<const Puzzle> puzzles,
                     const EvaluateOptions& options) {
  check<OptionError>(options.batch >= 1, "evaluate: batch {}; wanted 1 or more", options.batch);
  check_options(options.restarts);
  if (options.solve) check_options(*options.solve);
  check<OptionError>(options.graphs >= 0, "evaluate: {} graphs; wanted 0 or more", options.graphs);
  if (options.graphs > 0) {
    check<OptionError>(dynamic_cast<const GraphLearner*>(&net) != nullptr,
                       "evaluate: graphs are drawn by networks that learn theirs; this one is {}",
                       name(net.options.model));
    check<OptionError>(options.restarts.tries == 1 && !options.solve,
                       "evaluate: drawn graphs go with neither restarts nor a solver");
  }
  int before = 0;
  for (const int n : options.iterations) {
    check<OptionError>(n > before, "evaluate: {} iterations after {}; wanted ascending numbers", n,
                       before);
    before = n;
  }
  for (const Puzzle& puzzle : puzzles) {
    check<ShapeError>(puzzle.givens.geometry == net.options.geometry,
                      "evaluate: a board of box size {} for a network of box size {}",
                      puzzle.givens.geometry.box, net.options.geometry.box);
    check<OptionError>(puzzle.solution.has_value(), "evaluate: a puzzle without its solution");
  }
}

struct Counts {
  int64_t boards = 0, cells = 0;  // right
};
struct Edges {
  int64_t drawn = 0, right = 0;
};

// A board in the batch, with the best answer so far after each of the numbers of iterations.
struct Trial {
  int64_t puzzle = 0;  // its number
  std::vector<Answer> picked;
  std::vector<SolveResult> solves;  // those of a solver

  // How many of the numbers of iterations another try must go through: up to the last one that
  // misses a valid answer.
  size_t open(size_t counts) const {
    while (counts > 0 && counts <= picked.size() && picked[counts - 1].valid) --counts;
    return counts;
  }
};

// One more try for the trials that a valid answer is missing from.
void try_once(const Network& net, std::span<const Puzzle> puzzles, const EvaluateOptions& options,
              int attempt, std::span<Trial> trials) {
  const size_t counts = options.iterations.size();
  std::vector<Trial*> open;
  std::vector<size_t> until;  // entries of iterations that each of them goes through
  std::vector<Board> givens;
  std::vector<int64_t> numbers;
  for (Trial& trial : trials) {
    if (trial.open(counts) == 0) continue;
    open.push_back(&trial);
    until.push_back(trial.open(counts));
    givens.push_back(puzzles[static_cast<size_t>(trial.puzzle)].givens);
    numbers.push_back(trial.puzzle);
  }
  if (open.empty()) return;
  Tensor x = net.encode(givens);
  Tensor h = start_try(net, numbers, attempt, options.restarts);
  int done = 0;
  for (size_t k = 0; !open.empty(); ++k) {
    h = net.refine(h, x, options.iterations[k] - done);
    done = options.iterations[k];
    std::vector<Answer> answers = read_answers(net.logits(h), givens);
    std::vector<int32_t> places;  // of those that go on
    for (size_t b = 0; b < open.size(); ++b) {
      std::vector<Answer>& picked = open[b]->picked;
      if (k == picked.size()) {
        picked.push_back(std::move(answers[b]));
      } else if (better(answers[b], picked[k])) {
        picked[k] = std::move(answers[b]);
      }
      if (k + 1 < until[b]) places.push_back(static_cast<int32_t>(b));
    }
    if (places.size() == open.size()) continue;
    for (size_t b = 0; b < places.size(); ++b) {
      const auto from = static_cast<size_t>(places[b]);
      open[b] = open[from];
      until[b] = until[from];
      givens[b] = givens[from];
    }
    open.resize(places.size());
    givens.resize(places.size());
    if (open.empty()) break;
    h = keep_boards(h, places);
    x = net.encode(givens);
  }
}

// The answers of the probabilities' mean over graphs; of all graphs of a board in turn.
std::vector<Answer> mean_answers(const Tensor& logits, int64_t graphs,
                                 std::span<const Board> givens) {
  const auto boards = static_cast<int64_t>(givens.size());
  const Tensor p = ops::softmax(logits);
  const Tensor mean = ops::mean(ops::reshape(p, {boards, graphs, -1}), 1);
  return read_answers(ops::log(ops::reshape(mean, {boards, p.dim(1), p.dim(2)})), givens);
}

// Of graphs as encode_drawn gives them.
void count_edges(const std::vector<int32_t>& graphs, const GraphLearner& net, Edges& edges) {
  const auto row = static_cast<size_t>(1 + net.options.learned.neighbours);
  for (size_t at = 0; at < graphs.size(); ++at) {
    if (at % row == 0) continue;  // the digit
    const auto cell = static_cast<int>(at / row) % net.options.geometry.cells();
    edges.right += net.options.geometry.same_unit(cell, graphs[at]);
    ++edges.drawn;
  }
}

void vote(const GraphLearner& net, std::span<const Puzzle> puzzles, const EvaluateOptions& options,
          std::span<Trial> trials, Edges& edges) {
  std::vector<Board> givens;
  std::vector<int32_t> drawn;
  for (const Trial& trial : trials) {
    givens.push_back(puzzles[static_cast<size_t>(trial.puzzle)].givens);
    Philox random(options.graphs_seed, static_cast<uint64_t>(trial.puzzle));
    const auto one = net.encode_drawn(givens.back(), options.graphs, random).to_vector<int32_t>();
    drawn.insert(drawn.end(), one.begin(), one.end());
  }
  count_edges(drawn, net, edges);
  const int64_t runs = std::ssize(trials) * options.graphs, cells = net.options.geometry.cells();
  const Tensor x =
      Tensor::from(drawn, {runs, cells, std::ssize(drawn) / (runs * cells)}).to(net.device());
  Tensor h = net.start(runs);
  int done = 0;
  for (const int iterations : options.iterations) {
    h = net.refine(h, x, iterations - done);
    done = iterations;
    std::vector<Answer> answers = mean_answers(net.logits(h), options.graphs, givens);
    for (size_t b = 0; b < trials.size(); ++b) trials[b].picked.push_back(std::move(answers[b]));
  }
}

void keep_better(Trial& trial, size_t k, const Answer& answer, const SolveResult& solve) {
  if (k == trial.picked.size()) {
    trial.picked.push_back(answer);
    trial.solves.push_back(solve);
    return;
  }
  const double before = trial.solves[k].evaluations;
  if (solve.residual < trial.solves[k].residual) {
    trial.picked[k] = answer;
    trial.solves[k] = solve;
  }
  trial.solves[k].evaluations = before + solve.evaluations;
}

// One more try by the solver. It begins anew for every cap, but for the boards that a smaller one
// was enough for.
void solve_once(const Network& net, std::span<const Puzzle> puzzles, const EvaluateOptions& options,
                int attempt, std::span<Trial> trials) {
  EquilibriumOptions solve = *options.solve;
  std::vector<Trial*> open;
  for (Trial& trial : trials) open.push_back(&trial);
  const size_t caps = options.iterations.size();
  for (size_t k = 0; k < caps && !open.empty(); ++k) {
    std::vector<Board> givens;
    std::vector<int64_t> numbers;
    for (const Trial* trial : open) {
      givens.push_back(puzzles[static_cast<size_t>(trial->puzzle)].givens);
      numbers.push_back(trial->puzzle);
    }
    solve.iterations = options.iterations[k];
    const auto [z, report] =
        implicit::fixed_point(refinement(net), start_try(net, numbers, attempt, options.restarts),
                              {net.encode(givens)}, fixed_point_options(solve, net.options.model));
    const std::vector<Answer> answers = read_answers(net.logits(z), givens);
    std::vector<Trial*> left;
    for (size_t b = 0; b < open.size(); ++b) {
      const implicit::SampleReport& board = report->forward.samples[b];
      const bool converged = board.converged();
      for (size_t j = k; j < (converged ? caps : k + 1); ++j) {
        const int evaluations = converged ? board.iterations() : solve.iterations;
        keep_better(*open[b], j, answers[b],
                    {static_cast<double>(evaluations), board.residual, converged ? 0.0 : 1.0});
      }
      if (!converged) left.push_back(open[b]);
    }
    open = std::move(left);
  }
}

// Adds what the batch of boards from number `first` gets right.
void run_batch(const Network& net, std::span<const Puzzle> puzzles, int64_t first, int64_t size,
               const EvaluateOptions& options, std::span<Counts> counts,
               std::span<SolveResult> solves, Edges& edges) {
  std::vector<Trial> trials(static_cast<size_t>(size));
  for (int64_t b = 0; b < size; ++b) trials[static_cast<size_t>(b)].puzzle = first + b;
  if (options.graphs > 0) {
    vote(dynamic_cast<const GraphLearner&>(net), puzzles, options, trials, edges);
  } else {
    for (int attempt = 0; attempt < options.restarts.tries; ++attempt) {
      (options.solve ? solve_once : try_once)(net, puzzles, options, attempt, trials);
    }
  }
  for (const Trial& trial : trials) {
    const Board& solution = *puzzles[static_cast<size_t>(trial.puzzle)].solution;
    for (size_t k = 0; k < counts.size(); ++k) {
      int64_t right = 0;
      const int cells = solution.geometry.cells();
      for (int cell = 0; cell < cells; ++cell) {
        right += trial.picked[k].board[cell] == solution[cell];
      }
      counts[k].cells += right;
      counts[k].boards += right == cells;
      if (!options.solve) continue;
      solves[k].evaluations += trial.solves[k].evaluations;
      solves[k].residual += trial.solves[k].residual;
      solves[k].unconverged += trial.solves[k].unconverged;
    }
  }
}

}  // namespace

Proportion proportion(int64_t successes, int64_t trials) {
  if (trials == 0) return {};
  constexpr double kZ = 1.959963984540054;  // the normal law's 97.5 % point
  const auto n = static_cast<double>(trials);
  const double p = static_cast<double>(successes) / n;
  const double centre = (p + kZ * kZ / (2 * n)) / (1 + kZ * kZ / n);
  const double half = kZ * std::sqrt(p * (1 - p) / n + kZ * kZ / (4 * n * n)) / (1 + kZ * kZ / n);
  // At the ends the formula gives exactly 0 and 1, but for rounding.
  return {p, successes == 0 ? 0 : centre - half, successes == trials ? 1 : centre + half};
}

EvaluateReport evaluate(const Network& net, std::span<const Puzzle> puzzles,
                        const EvaluateOptions& options) {
  check_arguments(net, puzzles, options);
  const NoGrad no_grad;
  std::vector<Counts> counts(options.iterations.size());
  std::vector<SolveResult> solves(counts.size());  // sums
  Edges edges;
  EvaluateReport report;
  const auto total = static_cast<int64_t>(puzzles.size());
  while (report.puzzles < total) {
    const int64_t size = std::min(options.batch, total - report.puzzles);
    run_batch(net, puzzles, report.puzzles, size, options, counts, solves, edges);
    report.puzzles += size;
    if (options.progress && !options.progress(report.puzzles)) break;
  }
  if (edges.drawn > 0)
    report.drawn_precision = static_cast<double>(edges.right) / static_cast<double>(edges.drawn);
  const auto cells = static_cast<double>(report.puzzles * net.options.geometry.cells());
  for (size_t k = 0; k < counts.size(); ++k) {
    report.results.push_back({options.iterations[k], proportion(counts[k].boards, report.puzzles),
                              cells > 0 ? static_cast<double>(counts[k].cells) / cells : 0});
    if (!options.solve) continue;
    const auto boards = static_cast<double>(std::max<int64_t>(1, report.puzzles));
    report.results.back().solve = {solves[k].evaluations / boards, solves[k].residual / boards,
                                   solves[k].unconverged / boards};
  }
  return report;
}

}  // namespace stillpoint::sudoku
