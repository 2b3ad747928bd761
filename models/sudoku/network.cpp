#include "models/sudoku/network.h"

#include <vector>

#include "engine/error.h"
#include "models/sudoku/refine_net.h"
#include "models/sudoku/symbol_net.h"

namespace stillpoint::sudoku {
namespace {

void check_same_size(std::span<const Board> boards, Geometry wanted, const char* what) {
  for (const Board& board : boards) {
    check<ShapeError>(board.geometry == wanted, "{}: a board of box size {}; wanted {}", what,
                      board.geometry.box, wanted.box);
  }
}

}  // namespace

const char* name(Model model) { return model == Model::symbol ? "symbol" : "refine"; }

Network::Network(const NetworkOptions& o) : options(o) {
  check<ShapeError>(o.geometry.box >= kMinBox && o.geometry.box <= kMaxBox,
                    "network: box size {}; wanted {} to {}", o.geometry.box, kMinBox, kMaxBox);
  check<OptionError>(o.channels >= 1, "network: {} channels; wanted 1 or more", o.channels);
}

void Network::check_boards(std::span<const Board> boards) const {
  check_same_size(boards, options.geometry, "network");
}

Tensor Network::refine(const Tensor& h, const Tensor& puzzles, int64_t steps) const {
  check<OptionError>(steps >= 0, "refine: {} steps; wanted 0 or more", steps);
  if (steps == 0) return h;
  if (options.form == Form::fused) return refine_fused(h, puzzles, steps, ops::States::last);
  Tensor next = h;
  for (int64_t t = 0; t < steps; ++t) next = refine_once(next, puzzles);
  return next;
}

Tensor Network::trajectory(const Tensor& h, const Tensor& puzzles, int64_t steps) const {
  check<OptionError>(steps >= 1, "trajectory: {} steps; wanted 1 or more", steps);
  if (options.form == Form::fused) return refine_fused(h, puzzles, steps, ops::States::all);
  std::vector<Tensor> states;
  Tensor next = h;
  for (int64_t t = 0; t < steps; ++t) {
    next = refine_once(next, puzzles);
    states.push_back(ops::reshape(next, {1, next.numel()}));
  }
  Shape shape = h.shape();
  shape.insert(shape.begin(), steps);
  return ops::reshape(ops::concat(states), shape);
}

std::unique_ptr<Network> make_network(const NetworkOptions& options, Philox& random) {
  if (options.model == Model::refine) return std::make_unique<RefineNet>(options, random);
  return std::make_unique<SymbolNet>(options, random);
}

Tensor digits(std::span<const Board> boards, Device device) {
  const Geometry g = boards.empty() ? Geometry{} : boards[0].geometry;
  check_same_size(boards, g, "digits");
  std::vector<int32_t> values;
  for (const Board& board : boards) {
    for (int cell = 0; cell < g.cells(); ++cell) values.push_back(board[cell] - 1);
  }
  return Tensor::from(values, {static_cast<int64_t>(boards.size()), g.cells()}).to(device);
}

}  // namespace stillpoint::sudoku
