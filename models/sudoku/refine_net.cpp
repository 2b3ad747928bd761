#include "models/sudoku/refine_net.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "engine/autograd.h"
#include "engine/ops.h"

namespace stillpoint::sudoku {

Graph neighbours(Geometry geometry) {
  const std::vector<int32_t> all = peers(geometry);
  const auto degree = static_cast<ptrdiff_t>(all.size()) / geometry.cells();
  std::vector<std::vector<int32_t>> rows;
  for (auto row = all.begin(); row != all.end(); row += degree)
    rows.emplace_back(row, row + degree);
  return Graph::from_rows(rows, geometry.cells());
}

Graph wired(Geometry geometry, Wiring wiring) {
  if (wiring == Wiring::rules) return neighbours(geometry);
  const int cells = geometry.cells();
  const auto degree = wiring == Wiring::complete
                          ? static_cast<size_t>(cells - 1)
                          : peers(geometry).size() / static_cast<size_t>(cells);
  Philox random(1);
  std::vector<std::vector<int32_t>> rows;
  for (int cell = 0; cell < cells; ++cell) {
    std::vector<int32_t> others;
    for (int other = 0; other < cells; ++other)
      if (other != cell) others.push_back(other);
    for (size_t k = 0; k < degree; ++k)  // the first of a shuffle
      std::swap(others[k], others[k + random.below(static_cast<uint32_t>(others.size() - k))]);
    others.resize(degree);
    std::sort(others.begin(), others.end());
    rows.push_back(std::move(others));
  }
  return Graph::from_rows(rows, cells);
}

RefineNet::RefineNet(const NetworkOptions& o, Philox& random)
    : Network(o),
      initial(ops::normal({o.channels}, random, 0.0, 0.1)),
      given(o.geometry.side() + 1, 3 * o.channels, random),
      receiver(o.channels, o.channels, random),
      sender(o.channels, o.channels, random, nn::Bias::no),
      message(o.channels, 3 * o.channels, random, nn::Bias::no),
      state(o.channels, 3 * o.channels, random),
      readout(o.channels, o.geometry.side(), random),
      graph(wired(o.geometry, o.wiring)) {
  initial.set_requires_grad();
  // A sum of so many messages would drive the gates into saturation.
  const double degree = static_cast<double>(graph.entries()) / static_cast<double>(graph.rows());
  const NoGrad no_grad;
  message.weight.assign(ops::affine(message.weight, 1 / degree));
}

void RefineNet::move_to(Device device) {
  to_device(*this, device);
  graph = graph.to(device);
}

Tensor RefineNet::encode(std::span<const Board> givens) const {
  check_boards(givens);
  std::vector<int32_t> values;
  for (const Board& board : givens) {
    for (int cell = 0; cell < options.geometry.cells(); ++cell) values.push_back(board[cell]);
  }
  const Shape shape{static_cast<int64_t>(givens.size()), options.geometry.cells()};
  return given(Tensor::from(values, shape).to(device()));
}

Tensor RefineNet::start(int64_t boards) const {
  return ops::broadcast_to(initial, {boards, graph.rows(), options.channels});
}

Tensor RefineNet::refine_once(const Tensor& h, const Tensor& puzzles) const {
  const Tensor sum = ops::message_sum(receiver(h), sender(h), graph);
  return ops::gru_cell(ops::add(puzzles, message(sum)), state(h), h);
}

ops::RefineWeights RefineNet::weights() const {
  return {.receiver = receiver.weight,
          .receiver_bias = receiver.bias,
          .sender = sender.weight,
          .message = message.weight,
          .state = state.weight,
          .state_bias = state.bias};
}

Tensor RefineNet::refine_fused(const Tensor& h, const Tensor& puzzles, int64_t steps,
                               ops::States keep) const {
  return ops::refine(h, puzzles, graph, weights(), {.steps = steps, .keep = keep});
}

}  // namespace stillpoint::sudoku
