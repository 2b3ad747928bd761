// A recurrent relational network (Palm, Paquet, Winther: "Recurrent relational networks", NeurIPS
// 2018) that learns Sudoku from solved examples. It is told which cells see each other, and nothing
// else about the rules.
#pragma once

#include <vector>

#include "engine/optim/adamw.h"
#include "models/nn/layers.h"

namespace stillpoint::examples {

struct RelationalNet {
  nn::Embedding cell;               // blank or a digit -> x
  nn::Linear self, other, message;  // W relu(W1 h_i + W2 h_j), summed over the cells j that i sees
  nn::GruCell update;
  nn::Linear readout;

  RelationalNet(int64_t digits, int64_t channels, Philox& random)
      : cell(digits + 1, channels, random),
        self(channels, channels, random),
        other(channels, channels, random, nn::Bias::no),
        message(channels, channels, random, nn::Bias::no),
        update(2 * channels, channels, random),
        readout(channels, digits, random) {}

  // givens [boards, cells] -> logits [boards, cells, digits] after every step.
  std::vector<Tensor> operator()(const Tensor& givens, const Graph& graph, int steps) const {
    const Tensor x = cell(givens);
    Tensor h = x;
    std::vector<Tensor> logits;
    for (int step = 0; step < steps; ++step) {
      const Tensor m = message(ops::message_sum(self(h), other(h), graph));
      h = update(ops::concat({x, m}), h);
      logits.push_back(readout(h));
    }
    return logits;
  }

  void visit(auto&& v) {
    v("cell", cell);
    v("self", self);
    v("other", other);
    v("message", message);
    v("update", update);
    v("readout", readout);
  }
};

// One step of training; every step of thinking is asked for the solution. Returns the loss.
inline double train_step(const RelationalNet& net, optim::AdamW& optimiser, const Graph& graph,
                         const Tensor& givens, const Tensor& solutions, int steps) {
  Tensor loss = Tensor::zeros({}, {.device = givens.device()});
  for (const Tensor& logits : net(givens, graph, steps))
    loss = ops::add(loss, ops::cross_entropy(logits, solutions));
  backward(loss);
  optimiser.step();
  return loss.item() / steps;
}

}  // namespace stillpoint::examples
