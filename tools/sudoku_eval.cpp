// sudoku eval
#include <fmt/format.h>

#include <chrono>
#include <cstdio>
#include <iterator>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "engine/error.h"
#include "models/sudoku/evaluate.h"
#include "models/sudoku/generator.h"
#include "models/sudoku/graph_learner.h"
#include "models/sudoku/puzzle_text.h"
#include "models/sudoku/trainer.h"
#include "tools/sudoku.h"
#include "tools/sudoku_charts.h"
#include "tools/support/console.h"
#include "tools/support/options.h"
#include "tools/support/output.h"

namespace stillpoint::tools {
namespace {

struct EvalOptions {
  CommonOptions common;
  std::string checkpoint, puzzles, plot;
  sudoku::PuzzleKind kind = sudoku::PuzzleKind::minimal;
  int64_t count = 1000;
  sudoku::EvaluateOptions evaluate;
  sudoku::EquilibriumOptions solve;  // if --solver is given
  CLI::Option* solver = nullptr;
  int64_t repeats = 0;  // 0: the network's own
  int64_t batch = 0;    // 0: the device's default
};

void repeat_top_layer(sudoku::Network& net, int64_t times) {
  auto* learner = dynamic_cast<sudoku::GraphLearner*>(&net);
  check<OptionError>(learner != nullptr,
                     "--repeats: wanted for a network that learns its graph; this one is {}",
                     sudoku::name(net.options.model));
  learner->options.learned.repeats = learner->transformer.options.top_repeats = times;
}

std::vector<sudoku::Puzzle> read_or_make(const EvalOptions& o, sudoku::Geometry geometry) {
  std::vector<sudoku::Puzzle> puzzles;
  if (!o.puzzles.empty()) {
    puzzles = sudoku::read_puzzles(std::filesystem::path(o.puzzles), sudoku::Uniqueness::required);
    check<FormatError>(!puzzles.empty(), "--puzzles {}: the file holds no puzzle", o.puzzles);
    return puzzles;
  }
  const auto generator = evaluation_puzzles(o.kind, geometry, o.common.seed);
  for (const auto& made : sudoku::generate(generator, 0, o.count)) {
    puzzles.push_back({made.givens, made.solution});
  }
  return puzzles;
}

void print_table(const sudoku::EvaluateReport& report) {
  const bool solved = !report.results.empty() && report.results[0].solve.has_value();
  fmt::print("{} puzzles\niterations   boards right   95 % interval   cells right{}\n",
             report.puzzles, solved ? "   evaluations   residual   not converged" : "");
  for (const auto& r : report.results) {
    fmt::print("{:>10}   {:>10.2f} %   {:>5.1f} to {:>5.1f}   {:>9.2f} %", r.iterations,
               100 * r.boards.value, 100 * r.boards.low, 100 * r.boards.high, 100 * r.cells);
    if (r.solve) {
      fmt::print("   {:>11.1f}   {:>8.1e}   {:>11.2f} %", r.solve->evaluations, r.solve->residual,
                 100 * r.solve->unconverged);
    }
    fmt::print("\n");
  }
}

void print_quality(const sudoku::GraphQuality& q) {
  fmt::print(
      "of the most attended neighbours, {:.2f} % share a row, column or box; {:.2f} % of all that "
      "do "
      "are chosen\nan edge of one board is one of another with probability {:.3f}\n",
      100 * q.precision, 100 * q.recall, q.stability);
}

int run_eval(EvalOptions& o) {
  o.common.apply();
  o.evaluate.restarts.seed = o.common.seed;
  o.evaluate.graphs_seed = o.common.seed;
  o.evaluate.batch = o.batch > 0 ? o.batch : sudoku::default_batch(o.common.device);
  if (o.solver->count() > 0) o.evaluate.solve = o.solve;
  if (!o.plot.empty()) {
    check_plotter();
    o.plot = output_file("--plot", o.plot).string();
  }
  const auto net = sudoku::load_network(o.checkpoint, o.common.device);
  if (o.repeats > 0) repeat_top_layer(*net, o.repeats);
  const auto puzzles = read_or_make(o, net->options.geometry);
  note_interrupts();
  Progress progress;
  const auto start = std::chrono::steady_clock::now();
  o.evaluate.progress = [&](int64_t done) {
    progress.show([&] {
      const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
      return amount_done(done, std::ssize(puzzles), "puzzles", elapsed.count());
    });
    return !interrupted();
  };
  const auto report = sudoku::evaluate(*net, puzzles, o.evaluate);
  progress.finish();
  const auto quality = graph_quality_of(*net, puzzles);
  if (!o.plot.empty()) {
    std::vector<Chart> charts{accuracy_chart(report)};
    if (quality)
      for (Chart& chart : graph_charts(*quality, net->options.geometry))
        charts.push_back(std::move(chart));
    draw_svg(o.plot, charts);
  }
  if (o.common.json) {
    nlohmann::ordered_json json{{"puzzles", report.puzzles}, {"results", to_json(report)}};
    if (quality) json["graph"] = to_json(*quality);
    if (report.drawn_precision) json["graph"]["drawn_precision"] = *report.drawn_precision;
    fmt::print("{}\n", json.dump());
  } else {
    print_table(report);
    if (quality) print_quality(*quality);
    if (report.drawn_precision)
      fmt::print("of the neighbours drawn, {:.2f} % share a row, column or box\n",
                 100 * *report.drawn_precision);
  }
  return report.puzzles == static_cast<int64_t>(puzzles.size()) ? 0 : 130;
}

}  // namespace

nlohmann::ordered_json to_json(const sudoku::EvaluateReport& report) {
  auto results = nlohmann::ordered_json::array();
  for (const auto& r : report.results) {
    results.push_back({{"iterations", r.iterations},
                       {"accuracy", r.boards.value},
                       {"low", r.boards.low},
                       {"high", r.boards.high},
                       {"cells", r.cells}});
    if (!r.solve) continue;
    results.back()["evaluations"] = r.solve->evaluations;
    results.back()["residual"] = r.solve->residual;
    results.back()["unconverged"] = r.solve->unconverged;
  }
  return results;
}

std::optional<sudoku::GraphQuality> graph_quality_of(const sudoku::Network& net,
                                                     const std::vector<sudoku::Puzzle>& puzzles) {
  const auto* learner = dynamic_cast<const sudoku::GraphLearner*>(&net);
  if (learner == nullptr) return std::nullopt;
  std::vector<sudoku::Board> givens;
  for (const sudoku::Puzzle& puzzle : puzzles) givens.push_back(puzzle.givens);
  return sudoku::graph_quality(*learner, givens);
}

nlohmann::ordered_json to_json(const sudoku::GraphQuality& quality) {
  return {{"precision", quality.precision},
          {"recall", quality.recall},
          {"stability", quality.stability}};
}

std::function<int()> add_eval(CLI::App& app) {
  const auto o = std::make_shared<EvalOptions>();
  app.description(
      "Counts the boards that a trained network gets entirely right after each of some numbers of\n"
      "refinements, with 95 % intervals (Wilson). More refinements than in training are welcome:\n"
      "that is what the network is for.\n\n"
      "  sudoku eval --checkpoint runs/demo/checkpoint.safetensors --puzzles mine.csv --json");
  app.add_option("--checkpoint", o->checkpoint, "What `sudoku train` saved")->required();
  auto* puzzles = app.add_option(
      "--puzzles", o->puzzles,
      "Puzzles, one a line: 81 characters, '.' or '0' blank, optionally a comma and the\n"
      "solution. Each must have one solution. Without it, puzzles are generated whose draws\n"
      "no training shares");
  add_kind(app, o->kind)->excludes(puzzles);
  add_number(app, "--count", o->count, "How many puzzles to generate")->excludes(puzzles);
  app.add_option("--iterations", o->evaluate.iterations, "Numbers of refinements, ascending")
      ->delimiter(',')
      ->transform(digits_only(1, std::numeric_limits<int>::max()))
      ->capture_default_str();
  add_number(app, "--restarts", o->evaluate.restarts.tries,
             "Tries per puzzle, all but the first from noisy starts. Counted is the answer of\n"
             "one, picked without the solution: a valid board, else the most certain one; with\n"
             "--solver the one with the least residual");
  o->solver = add_solver(app, o->solve.solver,
                         "Solve for fixed points instead of refining: anderson, broyden or damped\n"
                         "(plain iteration). --iterations are then the most evaluations of a try");
  app.add_option("--tolerance", o->solve.tolerance,
                 "Of the solver: relative residual at which it stops")
      ->needs(o->solver)
      ->capture_default_str();
  app.add_option("--graphs", o->evaluate.graphs,
                 "Of a network that learns its graph: graphs drawn for every board, whose digits'\n"
                 "probabilities are averaged; 0: the most attended neighbours alone")
      ->transform(digits_only(0, 4096))
      ->excludes(o->solver)
      ->capture_default_str();
  add_number(app, "--repeats", o->repeats,
             "Of a network that learns its graph: how often the highest layer of its transformer\n"
             "is applied [as in training]")
      ->default_str("");
  add_number(app, "--batch", o->batch, "Boards refined together [32; on CUDA 1024]")
      ->default_str("");
  app.add_option(
      "--plot", o->plot,
      "Draw boards right against iterations into this SVG file, and beside it the graph of\n"
      "a network that chooses its own, averaged over the boards, and the rules'");
  o->common.add_to(app, "Seed of the generated puzzles and of the noise",
                   "Print one JSON object instead of a table");
  return [o] { return run_eval(*o); };
}

}  // namespace stillpoint::tools
