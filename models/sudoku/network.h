// What training, evaluation and solving need of a network that refines an answer: from a start h_0
// it computes h_1, h_2, ... with one map, which also reads the puzzle, and any h_t can be read out.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "engine/ops.h"
#include "engine/parameters.h"
#include "engine/random.h"
#include "engine/tensor.h"
#include "models/sudoku/board.h"

namespace stillpoint::sudoku {

enum class Model : uint8_t {
  symbol,  // SymbolNet: candidates and the rules that want exactly one of them
  refine,  // RefineNet: cells that send messages to their neighbours
};
const char* name(Model model);

// How refinements are computed; both give the same, but for rounding.
enum class Form : uint8_t {
  fused,     // all of them in one op, board by board
  composed,  // each from single ops: the form to read
};

struct NetworkOptions {
  Model model = Model::symbol;
  Geometry geometry = {};
  int64_t channels = 32;  // of a node's state
  Form form = Form::fused;
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
