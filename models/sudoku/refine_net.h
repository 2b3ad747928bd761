// RefineNet: the cells of a board as a recurrent graph network.
//
// After Palm, Paquet, Winther: "Recurrent relational networks", NeurIPS 2018, with three
// differences. Their message is a three-layer network of both cells and is formed for every edge;
// here it has one hidden layer, split into a part of the receiver and a part of the sender, so that
// no edge is ever stored, and its second layer, being linear, comes after the sum and is one with
// the gates. The update is a GRU, not an LSTM. Cells do not know their place: the graph is all that
// tells them apart, which makes every symmetry of the board one of the network.
#pragma once

#include "engine/graph.h"
#include "models/nn/layers.h"
#include "models/sudoku/network.h"

namespace stillpoint::sudoku {

// Row i lists the other cells of the row, column and box of cell i: 20 on a 9x9 board.
Graph neighbours(Geometry geometry);

// The graph of a wiring; random ones are the same for every network.
Graph wired(Geometry geometry, Wiring wiring);

// One refinement of states h [boards, cells, H]:
//   s  = sum over neighbours j of relu(W_1 h_i + b_1 + W_2 h_j)
//   h' = GRU with gates E[given digit] + W_s s and W_h h + b_h
// The puzzle enters as one row of E per cell. 8 H^2 + (4 side + 8) H + side parameters: 77,961 for
// H = 96 on 9x9.
struct RefineNet final : Network {
  RefineNet(const NetworkOptions& o, Philox& random);

  Tensor encode(std::span<const Board> givens) const override;  // [boards, cells, 3H]
  ops::RefineWeights weights() const;
  Tensor start(int64_t boards) const override;
  Tensor refine_once(const Tensor& h, const Tensor& puzzles) const override;
  Tensor logits(const Tensor& h) const override { return readout(h); }

  NamedTensors parameters() override { return stillpoint::parameters(*this); }
  void move_to(Device device) override;
  Device device() const override { return initial.device(); }

  void visit(auto&& v) {
    v("initial", initial);
    v("given", given);
    v("receiver", receiver);
    v("sender", sender);
    v("message", message);
    v("state", state);
    v("readout", readout);
  }

  Tensor initial;               // [H]
  nn::Embedding given;          // [side + 1, 3H]
  nn::Linear receiver, sender;  // [H, H]; the hidden layer of a message
  nn::Linear message, state;    // [3H, H]; to the gates
  nn::Linear readout;           // [side, H]

  Graph graph;

 protected:
  Tensor refine_fused(const Tensor& h, const Tensor& puzzles, int64_t steps,
                      ops::States keep) const override;
};

}  // namespace stillpoint::sudoku
