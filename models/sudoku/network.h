// What training, evaluation and solving need of a network that refines an answer: from a start h_0
// it computes h_1, h_2, ... with one map, which also reads the puzzle, and any h_t can be read out.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "engine/ops.h"
#include "engine/parameters.h"
#include "engine/random.h"
#include "engine/stochastic/surrogate.h"
#include "engine/tensor.h"
#include "models/nn/transformer.h"
#include "models/sudoku/board.h"

namespace stillpoint::sudoku {

enum class Model : uint8_t {
  symbol,         // SymbolNet: candidates and the rules that want exactly one of them
  refine,         // RefineNet: cells that send messages to their neighbours
  learned_graph,  // GraphLearner: RefineNet on neighbours that a transformer chooses
};
const char* name(Model model);

// How refinements are computed; both give the same, but for rounding.
enum class Form : uint8_t {
  fused,     // all of them in one op, board by board
  composed,  // each from single ops: the form to read
};

// Whom the cells of RefineNet hear. Other graphs than the rules' are there to be compared with.
enum class Wiring : uint8_t {
  rules,     // the other cells of row, column and box
  random,    // as many others, drawn once and for all
  complete,  // all others
};
const char* name(Wiring wiring);

using ops::Precision;
const char* name(Precision precision);

// How GraphLearner draws neighbours in training (engine/sampling.h).
enum class Law : uint8_t {
  plackett_luce,          // without replacement, scored as the set that they are
  ordered_plackett_luce,  // the same, scored in the order in which they were drawn
  with_replacement,
  k_subset,  // conditional Bernoulli
};
const char* name(Law law);
using stochastic::Baseline;
const char* name(Baseline baseline);

// How GraphLearner's gradient passes the draws.
enum class Estimator : uint8_t {
  score,             // unbiased: the draws' score, times what they are credited with
  straight_through,  // biased: as if the draws were what they are on average
};
const char* name(Estimator estimator);

// Which costs a draw is credited with: those downstream of it, or all of its board, as the original
// had it, which differ by noise alone.
enum class Credit : uint8_t { downstream, all };
const char* name(Credit credit);

// Of GraphLearner alone.
struct LearnedGraphOptions {
  int64_t neighbours = 0;  // of every cell; 0: as many as the rules give it
  int64_t width = 32;      // of the transformer's tokens
  int64_t layers = 1;      // below the top one, whose attention is drawn from
  int64_t heads = 4;
  nn::Tying tying = nn::Tying::none;  // of the layers' weights
  int64_t repeats = 1;                // how often the highest of the layers is applied
  // Training.
  Law law = Law::k_subset;
  Estimator estimator = Estimator::score;
  Credit credit = Credit::downstream;  // this, baseline and discount: of the score
  Baseline baseline = Baseline::others_of_board;
  int64_t draws = 2;   // graphs for every board
  double entropy = 0;  // this and the next: see stochastic::SurrogateOptions
  double discount = 0.2;
  // Weight of the variance of a cell's scores, which holds back what is certain already: a
  // neighbour that is never drawn is never found.
  double spread_penalty = 0.0005;
};

struct NetworkOptions {
  Model model = Model::symbol;
  Geometry geometry = {};
  int64_t channels = 32;  // of a node's state
  Form form = Form::fused;
  Precision precision = Precision::f32;  // symbol, fused: of its products
  Wiring wiring = Wiring::rules;         // refine
  LearnedGraphOptions learned = {};      // learned_graph
};

// A stretch of training: boards that are refined from h for some steps, with a loss after each.
struct Lesson {
  std::span<const Board> givens;
  Tensor h;                         // [boards, nodes, channels]
  std::span<const int32_t> digits;  // the answers, [boards, cells] from 0
  int64_t steps = 1;
};
struct Learned {
  Tensor loss;       // what to differentiate
  double mean = 0;   // cross entropy over boards, refinements and cells
  Tensor h, logits;  // after the last refinement: [boards, nodes, channels], [boards, cells,
                     // side]
};

struct Network {
  explicit Network(const NetworkOptions& o);
  virtual ~Network() = default;

  // What refinements read of the puzzles, made once for all of them. All boards have the geometry
  // of the network, or ShapeError is thrown.
  virtual Tensor encode(std::span<const Board> givens) const = 0;
  virtual Tensor start(int64_t boards) const = 0;  // h_0 [boards, nodes, channels], learned
  // h_t -> h_t+steps, and all on the way: [steps, boards, nodes, channels].
  Tensor refine(const Tensor& h, const Tensor& puzzles, int64_t steps = 1) const;
  Tensor trajectory(const Tensor& h, const Tensor& puzzles, int64_t steps) const;
  // h_t -> h_t+1 from single ops, each twice differentiable.
  virtual Tensor refine_once(const Tensor& h, const Tensor& puzzles) const = 0;
  virtual Tensor logits(const Tensor& h) const = 0;  // [..., nodes, channels] -> [..., cells, side]
  // Networks that draw take `random` for it.
  virtual Learned learn(const Lesson& lesson, Philox& random) const;

  virtual NamedTensors parameters() = 0;
  virtual void move_to(Device device) = 0;
  virtual Device device() const = 0;

  NetworkOptions options;

 protected:
  Network(const Network&) = default;
  Network(Network&&) = default;
  Network& operator=(const Network&) = default;
  Network& operator=(Network&&) = default;

  virtual Tensor refine_fused(const Tensor& h, const Tensor& puzzles, int64_t steps,
                              ops::States keep) const = 0;
  void check_boards(std::span<const Board> boards) const;
};

// With fresh weights. Throws OptionError without channels, ShapeError for a box size outside 2
// to 4.
std::unique_ptr<Network> make_network(const NetworkOptions& options, Philox& random);

// The digits of solved boards: [boards, cells] int32, from 0; -1 where a board is blank. Throws
// ShapeError for boards of different sizes.
Tensor digits(std::span<const Board> boards, Device device = Device::cpu);

}  // namespace stillpoint::sudoku
