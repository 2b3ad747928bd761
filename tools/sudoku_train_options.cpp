// sudoku train: the command line.
#include <functional>
#include <memory>
#include <vector>

#include "engine/error.h"
#include "tools/sudoku_train.h"
#include "tools/support/chart.h"
#include "tools/support/options.h"
#include "tools/support/output.h"

namespace stillpoint::tools {
namespace {

// As given; 0 stands for a default that depends on the others.
struct Given {
  TrainCommand command;
  sudoku::Regime regime = sudoku::Regime::carry;
  int64_t channels = 0;
  int window = 0, segments = 0;
  double learning_rate = 0;
  sudoku::Precision precision = sudoku::Precision::f32;
  EquilibriumArguments equilibrium;  // mean nothing in the other regimes
};

// What is wanted in some regimes only.
void check_regime(const Given& given) {
  const bool equilibrium = given.regime == sudoku::Regime::equilibrium;
  check<OptionError>(given.regime == sudoku::Regime::carry || given.segments == 0,
                     "--segments {}: wanted with --regime carry only; elsewhere every board leaves "
                     "after one step",
                     given.segments);
  check<OptionError>(!equilibrium || given.window == 0,
                     "--window {}: wanted with --regime carry and unroll only; --iterations says "
                     "how long an equilibrium is sought",
                     given.window);
  const std::vector<const CLI::Option*> options = given.equilibrium.given();
  check<OptionError>(equilibrium || given.command.resume || options.empty(),
                     "{}: wanted with --regime equilibrium only",
                     options.empty() ? "" : options.front()->get_name());
}

// Options that the chosen model has no use for are refused, not passed over.
void check_model(const CLI::App& app, const sudoku::NetworkOptions& net) {
  for (const char* option : {"--neighbours", "--width", "--layers", "--tied", "--repeats",
                             "--fresh-refiner", "--law", "--estimator", "--baseline", "--credit",
                             "--draws", "--entropy", "--discount", "--spread-penalty"}) {
    check<OptionError>(net.model == sudoku::Model::learned_graph || app.count(option) == 0,
                       "{}: wanted with --model learned-graph only", option);
  }
  for (const char* option : {"--baseline", "--credit", "--discount"}) {
    check<OptionError>(net.learned.estimator == sudoku::Estimator::score || app.count(option) == 0,
                       "{}: wanted with --estimator score only", option);
  }
  check<OptionError>(net.learned.layers >= 2 || app.count("--tied") == 0,
                     "--tied: wanted with --layers 2 or more; they are {}", net.learned.layers);
  check<OptionError>(net.model == sudoku::Model::refine || app.count("--graph") == 0,
                     "--graph: wanted with --model refine only");
}

// The other boards of a baseline are those that are refined together.
void check_baseline(const sudoku::TrainOptions& o) {
  const sudoku::LearnedGraphOptions& l = o.net.learned;
  const int64_t left = (o.carry.boards - 1) % o.carry.slice + 1;  // for the last slice
  check<OptionError>(l.estimator != sudoku::Estimator::score ||
                         l.baseline != sudoku::Baseline::others_in_batch || left * l.draws > 1,
                     "--boards {}: refined {} at a time, which leaves one without others for "
                     "--baseline batch; wanted another number, or --draws 2 or more",
                     o.carry.boards, o.carry.slice);
}

// What a run that is taken up again is to do otherwise than before.
void note_changes(Given& given, const CLI::App& app) {
  TrainCommand& c = given.command;
  std::vector<const CLI::Option*> changed = given.equilibrium.given();
  const CLI::Option* const first = changed.empty() ? nullptr : changed.front();
  for (const char* name :
       {"--segments", "--hard-share", "--minimal-share", "--learning-rate", "--precision"})
    if (app.count(name) > 0) changed.push_back(app.get_option(name));
  if (changed.empty()) return;
  c.changes = as_given(changed);
  c.change = [&given, &app, first](sudoku::TrainOptions& o) {
    const sudoku::GeneratorOptions& puzzles = given.command.train.carry.puzzles;
    const auto change = [&app](const char* name, auto& option, const auto& value) {
      if (app.count(name) > 0) option = value;
    };
    change("--segments", o.carry.segments, given.segments);
    change("--hard-share", o.carry.puzzles.hard_share, puzzles.hard_share);
    change("--minimal-share", o.carry.puzzles.minimal_share, puzzles.minimal_share);
    change("--learning-rate", o.learning_rate, given.learning_rate);
    change("--precision", o.net.precision, given.precision);
    if (first == nullptr) return;
    check<OptionError>(o.carry.equilibrium.has_value(),
                       "{}: wanted for a run of --regime equilibrium only", first->get_name());
    given.equilibrium.apply(*o.carry.equilibrium);
  };
}

int run(Given& given, const CLI::App& app) {
  TrainCommand& c = given.command;

  c.common.apply();
  check<OptionError>((c.minutes > 0) != (c.steps > 0),
                     "train: --minutes {} and --steps {}; wanted one of them", c.minutes, c.steps);
  if (!c.plot.empty()) {
    check_plotter();
    c.plot = output_file("--plot", c.plot).string();
  }
  check_model(app, c.train.net);
  const bool learned = c.train.net.model == sudoku::Model::learned_graph;
  if (learned && app.count("--regime") == 0) given.regime = sudoku::Regime::unroll;
  check<OptionError>(!learned || given.regime == sudoku::Regime::unroll,
                     "--regime {}: wanted without --model learned-graph, which draws a graph for "
                     "every step",
                     sudoku::name(given.regime));
  check_regime(given);
  sudoku::CarryOptions& carry = c.train.carry;
  const sudoku::CarryOptions defaults = sudoku::carry_options(given.regime);
  carry.window = given.window > 0 ? given.window : defaults.window;
  carry.segments = given.segments > 0 ? given.segments : defaults.segments;
  carry.slice = sudoku::default_slice(c.train.net.model, given.regime, c.common.device);
  carry.equilibrium = defaults.equilibrium;
  if (carry.equilibrium) given.equilibrium.apply(*carry.equilibrium);
  if (learned) check_baseline(c.train);
  const bool symbol = c.train.net.model == sudoku::Model::symbol;
  c.train.net.channels = given.channels > 0 ? given.channels : symbol ? 32 : 96;
  if (app.count("--optimiser") == 0 && symbol) c.train.optimiser = sudoku::Optimiser::muon;
  const bool muon = c.train.optimiser == sudoku::Optimiser::muon;
  c.train.learning_rate = given.learning_rate != 0 ? given.learning_rate
                          : muon                   ? 3e-3
                          : symbol                 ? 2e-3
                                                   : 1e-3;
  c.train.seed = c.train.carry.puzzles.seed = c.common.seed;
  c.train.carry.puzzles.geometry = c.train.net.geometry;
  c.train.net.precision = given.precision;
  if (c.resume) note_changes(given, app);
  check<OptionError>(
      given.precision == sudoku::Precision::f32 || c.resume || (symbol && !carry.equilibrium),
      "--precision bf16: wanted with --model symbol and --regime carry or unroll");
  check<OptionError>(given.precision == sudoku::Precision::f32 || c.common.device == Device::cpu,
                     "--precision bf16: wanted with --device cpu");
  return run_train(c);
}

}  // namespace

std::function<int()> add_train(CLI::App& app) {
  const auto c = std::make_shared<Given>();
  app.description(
      "Trains a network on puzzles that it makes on the way, and writes into the output folder:\n"
      "  checkpoint.safetensors   the network and all that --resume needs, replaced as it goes\n"
      "  network.safetensors      its averaged weights alone, a small file to keep and to pass on\n"
      "  metrics.jsonl            one JSON object a line: losses, validation curves\n"
      "Ctrl-C saves and stops. Each step refines a pool of boards by a few iterations from where\n"
      "the last step left them; the learning rate falls to zero towards the end of the run.\n\n"
      "  sudoku train --output runs/first --minutes 8");
  TrainCommand& o = c->command;
  sudoku::LearnedGraphOptions& learned = o.train.net.learned;
  app.add_option("--output", o.output, "Folder of the run")->required();
  app.add_option("--minutes", o.minutes, "Length of the run by the clock, validation included")
      ->check(number(0, Least::excluded));
  add_number(app, "--steps", o.steps,
             "Length of the run in steps: then the same seed gives the same network, bit for bit")
      ->default_str("");
  auto* resume = app.add_flag("--resume", o.resume,
                              "Go on with the run in the folder; --minutes or --steps is then the\n"
                              "length of the whole, earlier parts included");
  c->equilibrium.add_to(app);
  std::vector<CLI::Option*> fixed = {
      add_choice<sudoku::Model>(
          app, "--model", o.train.net.model,
          {{"symbol", sudoku::Model::symbol},
           {"refine", sudoku::Model::refine},
           {"learned-graph", sudoku::Model::learned_graph}},
          "symbol: candidates and rules (SymbolNet); refine: cells and messages\n"
          "(RefineNet); learned-graph: RefineNet on neighbours that a transformer chooses\n"
          "(GraphLearner) [symbol]"),
      add_choice<sudoku::Regime>(
          app, "--regime", c->regime,
          {{"carry", sudoku::Regime::carry},
           {"unroll", sudoku::Regime::unroll},
           {"equilibrium", sudoku::Regime::equilibrium}},
          "carry: short windows, states carried from step to step; unroll: every step\n"
          "takes fresh boards through all refinements; equilibrium: every step takes fresh\n"
          "boards to their fixed points [learned-graph: unroll, else carry]"),
      app.add_option("--box", o.train.net.geometry.box,
                     "Box size: 2 is 4x4, 3 is 9x9, 4 is 16x16; learned-graph: 2 or 3")
          ->transform(digits_only(2, 4))
          ->capture_default_str(),
      add_number(app, "--channels", c->channels, "Width of a node's state [symbol: 32, others: 96]")
          ->default_str(""),
      add_choice<sudoku::Wiring>(
          app, "--graph", o.train.net.wiring,
          {{"rules", sudoku::Wiring::rules},
           {"random", sudoku::Wiring::random},
           {"complete", sudoku::Wiring::complete}},
          "refine: whom a cell hears. rules: its row, column and box; random: as many others;\n"
          "complete: all others [rules]"),
      add_number(app, "--neighbours", learned.neighbours,
                 "learned-graph: of every cell [as many as the rules give it]")
          ->default_str(""),
      add_number(
          app, "--width", learned.width,
          "learned-graph: of the transformer's tokens, a multiple of 4; with the number of cells\n"
          "128 at most"),
      add_number(app, "--layers", learned.layers,
                 "learned-graph: of the transformer, below the attention that is drawn from", 0),
      app.add_flag_callback(
          "--tied", [&learned] { learned.tying = nn::Tying::tied; },
          "learned-graph: all layers have the same weights"),
      add_number(
          app, "--repeats", learned.repeats,
          "learned-graph: how often the highest of the layers is applied, one time after the\n"
          "other; `sudoku eval --repeats` can ask for more"),
      add_choice<sudoku::Law>(
          app, "--law", learned.law,
          {{"plackett-luce", sudoku::Law::plackett_luce},
           {"ordered-plackett-luce", sudoku::Law::ordered_plackett_luce},
           {"with-replacement", sudoku::Law::with_replacement},
           {"k-subset", sudoku::Law::k_subset}},
          "learned-graph: how neighbours are drawn. plackett-luce: without replacement;\n"
          "ordered-plackett-luce: the same, scored in the order of the draws;\n"
          "with-replacement; k-subset: conditional Bernoulli [k-subset]"),
      add_choice<sudoku::Estimator>(
          app, "--estimator", learned.estimator,
          {{"score", sudoku::Estimator::score},
           {"straight-through", sudoku::Estimator::straight_through}},
          "learned-graph: how gradients pass the draws. score: unbiased; straight-through:\n"
          "biased, from one refinement drawn at random, but with less noise [score]"),
      add_choice<sudoku::Baseline>(
          app, "--baseline", learned.baseline,
          {{"none", sudoku::Baseline::none},
           {"batch", sudoku::Baseline::others_in_batch},
           {"board", sudoku::Baseline::others_of_board}},
          "learned-graph: what a cost is compared with: none, all other runs, which are draws for\n"
          "this board and others (batch), or the other draws for this board (board) [board]"),
      add_choice<sudoku::Credit>(
          app, "--credit", learned.credit,
          {{"downstream", sudoku::Credit::downstream}, {"all", sudoku::Credit::all}},
          "learned-graph: the costs that a draw answers for, those downstream of it or all of its\n"
          "board [downstream]"),
      add_number(app, "--draws", learned.draws, "learned-graph: graphs drawn for every board"),
      app.add_option("--entropy", learned.entropy, "learned-graph: weight of an entropy bonus")
          ->check(number(0, Least::included))
          ->capture_default_str(),
      app.add_option("--discount", learned.discount,
                     "learned-graph: draws answer for discount^t of the loss after t refinements\n"
                     "more; above 0, up to 1")
          ->check(number(0, Least::excluded, 1))
          ->capture_default_str(),
      app.add_option(
             "--spread-penalty", learned.spread_penalty,
             "learned-graph: weight of the variance of a cell's scores, without which some\n"
             "cells are never drawn any more. The default is for 4x4; docs/learned-graph.md has\n"
             "that of 9x9")
          ->check(number(0, Least::included))
          ->capture_default_str(),
      add_number(app, "--boards", o.train.carry.boards,
                 "Boards in the pool, all refined in a step"),
      add_number(app, "--window", c->window,
                 "Refinements in a step, all differentiated through; learned-graph: 2 or more [16]")
          ->default_str(""),
      add_choice<sudoku::Optimiser>(
          app, "--optimiser", o.train.optimiser,
          {{"muon", sudoku::Optimiser::muon}, {"adamw", sudoku::Optimiser::adamw}},
          "Of the matrices between hidden layers: muon (orthogonal steps) or adamw, which all\n"
          "other parameters take [symbol: muon, others: adamw]"),
  };
  // These can change when a run is taken up again.
  app.add_option(
         "--learning-rate", c->learning_rate,
         "At its highest. Also with --resume [muon: 0.003, adamw: 0.001, but symbol: 0.002]")
      ->check(number(0, Least::excluded));
  add_number(app, "--segments", c->segments,
             "carry: steps after which a board is replaced. Also with --resume [4]")
      ->default_str("");
  app.add_option("--hard-share", o.train.carry.puzzles.hard_share,
                 "Share of hard puzzles, climbed to from minimal ones. Also with --resume")
      ->check(number(0, Least::included, 1))
      ->capture_default_str();
  app.add_option("--minimal-share", o.train.carry.puzzles.minimal_share,
                 "Share of minimal puzzles among the others; the rest has 0 to 30 givens more.\n"
                 "Also with --resume")
      ->check(number(0, Least::included, 1))
      ->capture_default_str();
  add_choice<sudoku::Precision>(
      app, "--precision", c->precision,
      {{"f32", sudoku::Precision::f32}, {"bf16", sudoku::Precision::bf16}},
      "symbol: of products of matrices. bf16: operands rounded to bfloat16, sums in float32;\n"
      "needs AMX-BF16 on the CPU. Also with --resume, for the rest of the run [f32]");
  CLI::Option* from =
      app.add_option("--from", o.from,
                     "Start with the weights of another run, a checkpoint or network\n"
                     "of the same model, --channels, --width, --layers and --tied");
  fixed.push_back(from);
  fixed.push_back(app.add_flag("--fresh-refiner", o.fresh_refiner,
                               "learned-graph, with --from: its attention alone; what refines on\n"
                               "the graph starts anew")
                      ->needs(from));
  for (CLI::Option* option : fixed) option->excludes(resume);
  add_number(app, "--until", o.until,
             "Stop after this step, saved and validated: --steps or --minutes go on to say how\n"
             "the learning rate falls")
      ->default_str("");
  auto* seconds = app.add_option("--save-every", o.save_every, "Seconds between checkpoints")
                      ->check(number(0, Least::excluded))
                      ->capture_default_str();
  add_number(app, "--save-steps", o.save_steps, "Steps between checkpoints")
      ->default_str("")
      ->excludes(seconds);
  add_number(app, "--validate", o.validate, "Unseen minimal puzzles tried at each checkpoint", 0);
  app.add_option(
      "--plot", o.plot,
      "Draw the run into this SVG file at each checkpoint: accuracy against iterations,\n"
      "loss and accuracy against time");
  o.common.add_to(app, "Seed of the weights and the puzzles; --resume keeps the run's own",
                  "Print one JSON object at the end");
  return [c, &app] { return run(*c, app); };
}

}  // namespace stillpoint::tools
