// SymbolNet: a network that refines candidates instead of cells.
//
// A graph of a Sudoku usually has the cells as nodes and one-hot digits as their features. Here the
// nodes are the candidates (cell, digit), 729 on a 9x9 board, and the rules are 324 factors that
// each want exactly one of their nine members: one digit per cell, one place per digit in each row,
// column and box. Every map is shared by all candidates, so the network cannot prefer a digit: to
// rename the digits is to permute the nodes.
#pragma once

#include "engine/graph.h"
#include "models/nn/layers.h"
#include "models/sudoku/network.h"

namespace stillpoint::sudoku {

// The rules of a board: rows are factors (first row-digit, then column-digit, box-digit, cell),
// columns are candidates, cell * side + digit.
Graph exactly_one_factors(Geometry geometry);

// One refinement, for states h [boards, candidates, C] and clues k [boards, candidates]:
//   m  = relu(W_m h)
//   f  = relu(W_t sum of m over the members)       per factor of type t: line, box or cell
//   h' = rmsnorm(h + W_2 relu(W_1 [h, m] + E[k] + sum over its factors of V_t f))
// The product with V_t comes before the way back to the candidates: there are 324 factors, but 729
// candidates. Rows and columns share their type, which makes transposing a board a symmetry too.
// 16 C^2 + 13 C + 1 parameters: 16,801 for C = 32.
struct SymbolNet final : Network {
  SymbolNet(const NetworkOptions& o, Philox& random);

  // What the givens say about each candidate, [boards, candidates] int32: it is given (0); another
  // digit is given in its cell (1); its cell is blank (2).
  Tensor encode(std::span<const Board> givens) const override;
  Tensor start(int64_t boards) const override;
  Tensor refine_once(const Tensor& h, const Tensor& clues) const override;
  Tensor logits(const Tensor& h) const override;

  NamedTensors parameters() override { return stillpoint::parameters(*this); }
  void move_to(Device device) override;
  Device device() const override { return initial.device(); }

  void visit(auto&& v) {
    v("initial", initial);
    v("message", message);
    v("factor", factor);
    v("collect", collect);
    v("own", own);
    v("clue", clue);
    v("update", update);
    v("readout", readout);
  }

  Tensor initial;  // [C]
  nn::Linear message, factor, collect, own, update, readout;
  nn::Embedding clue;  // [3, 2C]

  Graph factors;
  Tensor type_mask;  // [factors, 3C]: 1 in the C columns of the factor's type

 protected:
  Tensor refine_fused(const Tensor& h, const Tensor& clues, int64_t steps,
                      ops::States keep) const override;
};

}  // namespace stillpoint::sudoku
