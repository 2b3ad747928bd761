#include "models/sudoku/symbol_net.h"

#include <vector>

#include "engine/autograd.h"
#include "engine/ops.h"

namespace stillpoint::sudoku {
namespace {

constexpr int kTypes = 3;  // of factors: line, box, cell
constexpr int kClues = 3;

Tensor type_columns(Geometry geometry, int64_t channels) {
  const int64_t units = geometry.cells();
  std::vector<float> mask;
  for (const int type : {0, 0, 1, 2}) {
    for (int64_t factor = 0; factor < units; ++factor) {
      for (int64_t column = 0; column < kTypes * channels; ++column) {
        mask.push_back(column / channels == type ? 1.0f : 0.0f);
      }
    }
  }
  return Tensor::from(mask, {4 * units, kTypes * channels});
}

}  // namespace

Graph exactly_one_factors(Geometry geometry) {
  const int side = geometry.side(), cells = geometry.cells();
  std::vector<std::vector<int32_t>> members(static_cast<size_t>(cells) * 4);
  for (int cell = 0; cell < cells; ++cell) {
    for (int digit = 0; digit < side; ++digit) {
      const int32_t candidate = cell * side + digit;
      const int factors[] = {geometry.row(cell) * side + digit,
                             cells + geometry.column(cell) * side + digit,
                             2 * cells + geometry.block(cell) * side + digit, 3 * cells + cell};
      for (const int factor : factors) members[static_cast<size_t>(factor)].push_back(candidate);
    }
  }
  return Graph::from_rows(members, int64_t{cells} * side);
}

SymbolNet::SymbolNet(const NetworkOptions& o, Philox& random)
    : Network(o),
      initial(ops::normal({o.channels}, random, 0.0, 0.1)),
      message(o.channels, o.channels, random),
      factor(o.channels, kTypes * o.channels, random),
      collect(kTypes * o.channels, 2 * o.channels, random, nn::Bias::no),
      own(2 * o.channels, 2 * o.channels, random, nn::Bias::no),
      update(2 * o.channels, o.channels, random),
      readout(o.channels, 1, random),
      clue(kClues, 2 * o.channels, random),
      factors(exactly_one_factors(o.geometry)),
      type_mask(type_columns(o.geometry, o.channels)) {
  initial.set_requires_grad();
  // As large as what the product with the state starts with.
  const NoGrad no_grad;
  clue.table.assign(ops::affine(clue.table, 0.5));
}

void SymbolNet::move_to(Device device) {
  to_device(*this, device);
  factors = factors.to(device);
  type_mask = type_mask.to(device);
}

Tensor SymbolNet::encode(std::span<const Board> givens) const {
  check_boards(givens);
  std::vector<int32_t> values;
  const Geometry g = options.geometry;
  for (const Board& board : givens) {
    for (int cell = 0; cell < g.cells(); ++cell) {
      for (int digit = 1; digit <= g.side(); ++digit) {
        values.push_back(board[cell] == 0 ? 2 : board[cell] == digit ? 0 : 1);
      }
    }
  }
  const auto count = static_cast<int64_t>(givens.size());
  return Tensor::from(values, {count, factors.cols()}).to(device());
}

Tensor SymbolNet::start(int64_t boards) const {
  return ops::broadcast_to(initial, {boards, factors.cols(), options.channels});
}

Tensor SymbolNet::refine_once(const Tensor& h, const Tensor& clues) const {
  const Tensor m = message(h, ops::Activation::relu);
  const Tensor f = ops::mul(factor(ops::factor_sum(m, factors), ops::Activation::relu), type_mask);
  const Tensor rules = ops::factor_broadcast(collect(f), factors);
  const Tensor u = ops::relu(ops::add(ops::add(own(ops::concat({h, m})), clue(clues)), rules));
  return ops::rms_norm(update(u), {}, h);
}

Tensor SymbolNet::refine_fused(const Tensor& h, const Tensor& clues, int64_t steps,
                               ops::States keep) const {
  const auto units = static_cast<int32_t>(options.geometry.cells());
  return ops::refine_factor(h, clues,
                            {.message = message.weight,
                             .message_bias = message.bias,
                             .factor = factor.weight,
                             .factor_bias = factor.bias,
                             .collect = collect.weight,
                             .own = own.weight,
                             .clue = clue.table,
                             .update = update.weight,
                             .update_bias = update.bias},
                            factors,
                            {.steps = steps,
                             .types = {0, 2 * units, 3 * units, 4 * units},
                             .keep = keep,
                             .precision = options.precision});
}

Tensor SymbolNet::logits(const Tensor& h) const {
  Shape shape = h.shape();
  shape.pop_back();
  shape.back() = options.geometry.cells();
  shape.push_back(options.geometry.side());
  return ops::reshape(readout(h), shape);
}

}  // namespace stillpoint::sudoku
