#include "models/sudoku/evaluate.h"

#include <algorithm>
#include <cmath>

#include "engine/autograd.h"
#include "engine/error.h"

namespace stillpoint::sudoku {
namespace {

void check_arguments(const Network& net, std::span<const Puzzle> puzzles,
                     const EvaluateOptions& options) {
  check<OptionError>(options.batch >= 1, "evaluate: batch {}; wanted 1 or more", options.batch);
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

// Adds what one batch gets right after each of the wanted numbers of iterations.
void run_batch(const Network& net, std::span<const Puzzle> puzzles, std::span<const int> iterations,
               std::span<Counts> counts) {
  std::vector<Board> givens, solutions;
  for (const Puzzle& puzzle : puzzles) {
    givens.push_back(puzzle.givens);
    solutions.push_back(*puzzle.solution);
  }
  const Tensor x = net.encode(givens);
  const int64_t cells = net.options.geometry.cells();
  Tensor h = net.start(static_cast<int64_t>(puzzles.size()));
  int done = 0;
  for (size_t k = 0; k < iterations.size(); ++k) {
    for (; done < iterations[k]; ++done) h = net.refine(h, x);
    const std::vector<int32_t> answer = likeliest(net.logits(h));
    for (size_t b = 0; b < solutions.size(); ++b) {
      int64_t right = 0;
      for (int64_t cell = 0; cell < cells; ++cell) {
        const auto at = static_cast<size_t>(cell);
        right += answer[b * static_cast<size_t>(cells) + at] + 1 == solutions[b].cells[at];
      }
      counts[k].cells += right;
      counts[k].boards += right == cells;
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

std::vector<int32_t> likeliest(const Tensor& logits) {
  const std::vector<float> values = logits.to_vector<float>();
  const int64_t side = logits.dim(-1);
  std::vector<int32_t> best;
  best.reserve(values.size() / static_cast<size_t>(side));
  for (auto row = values.begin(); row != values.end(); row += side) {
    best.push_back(static_cast<int32_t>(std::max_element(row, row + side) - row));
  }
  return best;
}

EvaluateReport evaluate(const Network& net, std::span<const Puzzle> puzzles,
                        const EvaluateOptions& options) {
  check_arguments(net, puzzles, options);
  const NoGrad no_grad;
  std::vector<Counts> counts(options.iterations.size());
  EvaluateReport report;
  const auto total = static_cast<int64_t>(puzzles.size());
  while (report.puzzles < total) {
    const int64_t size = std::min(options.batch, total - report.puzzles);
    run_batch(net, puzzles.subspan(static_cast<size_t>(report.puzzles), static_cast<size_t>(size)),
              options.iterations, counts);
    report.puzzles += size;
    if (options.progress && !options.progress(report.puzzles)) break;
  }
  const auto cells = static_cast<double>(report.puzzles * net.options.geometry.cells());
  for (size_t k = 0; k < counts.size(); ++k) {
    report.results.push_back({options.iterations[k], proportion(counts[k].boards, report.puzzles),
                              cells > 0 ? static_cast<double>(counts[k].cells) / cells : 0});
  }
  return report;
}

}  // namespace stillpoint::sudoku
