// GraphLearner: RefineNet on a graph that nobody gave it.
//
// A small transformer reads the board as tokens, the sum of a digit's and a position's embedding,
// and knows nothing of rows, columns and boxes. The attention of its top layer is not used to mix
// tokens: each cell draws `neighbours` others by it, and RefineNet refines the board on the graph
// that results, the same for all refinements. Its cells see their digit alone, so that only the
// graph can carry the rules.
//
// Training follows the gradient through the draws by their score (engine/stochastic/surrogate.h):
// what cell i pays after t + 1 refinements is credited to the draws of the cells within t hops of
// it. Or it follows straight-through Gumbel (engine/stochastic/straight_through.h), biased but far
// less noisy: what a cell pays after one refinement, drawn at random of those that tell anything,
// is credited to whom it hears, by the derivative of the cost. Otherwise the graph is the
// `neighbours` most attended cells. docs/learned-graph.md derives all this and says how well it
// works.
#pragma once

#include <vector>

#include "models/nn/transformer.h"
#include "models/sudoku/refine_net.h"

namespace stillpoint::sudoku {

struct GraphLearner final : Network {
  // Throws OptionError for neighbours outside 1 to 64 or not below the cells, or a transformer
  // that is not possible: its width, a multiple of its heads, and the number of cells come to 128
  // at most.
  GraphLearner(const NetworkOptions& o, Philox& random);

  // Of every cell the digit given (0: blank) and its neighbours: [boards, cells, 1 + neighbours],
  // int32; boards may be 0. Throws Error where attention is not finite any more.
  Tensor encode(std::span<const Board> givens) const override;
  Tensor start(int64_t boards) const override { return refiner.start(boards); }
  Tensor logits(const Tensor& h) const override { return refiner.logits(h); }
  // Throws OptionError without boards, and for one refinement from cells that are all alike, where
  // no cost depends on a draw.
  Learned learn(const Lesson& lesson, Philox& random) const override;

  // The most attended cells of every cell, most attended first: [boards, cells, neighbours]. Throws
  // as encode.
  Tensor neighbours(std::span<const Board> givens) const;

  // As encode, of graphs drawn for one board as in training: [graphs, cells, 1 + neighbours].
  Tensor encode_drawn(const Board& givens, int64_t graphs, Philox& random) const;

  // How much the cost of each cell after one refinement of h [runs, cells, channels] changes with
  // the weight of what it hears from each other cell, by derivative: [runs, cells, cells], a
  // constant. Weights are 1 for the neighbours in `puzzles` and 0 for the others. Runs are `draws`
  // for every board; digits [boards, cells] are the answers, from 0.
  Tensor edge_slopes(const Tensor& h, const Tensor& puzzles, std::span<const int32_t> digits,
                     int64_t draws) const;

  NamedTensors parameters() override { return stillpoint::parameters(*this); }
  void move_to(Device device) override;
  Device device() const override { return refiner.device(); }

  void visit(auto&& v) {
    v("digit", digit);
    v("position", position);
    transformer.visit(v);  // "blocks": what files have called them from the beginning
    v("norm", norm);
    v("query", query);
    v("key", key);
    v("refiner", refiner);
  }

  nn::Embedding digit, position;  // [side + 1, width], [cells, width]
  nn::Transformer transformer;
  nn::LayerNorm norm;
  nn::Linear query, key;  // of the top layer: [width, width]
  RefineNet refiner;
  // [cells, cells]: set a cell's attention for itself to nothing.
  Tensor self_query, self_key, self_score;

 protected:
  Tensor refine_once(const Tensor& h, const Tensor& puzzles) const override;
  Tensor refine_fused(const Tensor& h, const Tensor& puzzles, int64_t steps,
                      ops::States keep) const override;

 private:
  struct Attention {
    Tensor q, k;  // [boards, cells, width]
  };
  Attention attention(std::span<const Board> givens) const;
  // As neighbours, with -1 where attention is not finite.
  Tensor most_attended(std::span<const Board> givens) const;
  // With more columns, [boards, cells, width + cells]: then no cell sees itself.
  Attention of_others(const Attention& a) const;
  // q . k / sqrt(width), a cell's for itself included: [boards, cells, cells].
  Tensor scores(const Attention& a) const;
  struct Drawn {
    Tensor indices, log_prob;  // [runs, cells, k], [runs, cells]
  };
  // `draws` times for every board. k-subset: by `scores`, which have no cell draw itself.
  Drawn draw(const Attention& a, const Tensor& scores, int64_t draws, Philox& random) const;
  Tensor refined(const Tensor& h, const Tensor& puzzles, const ops::RefineOptions& options) const;
};

// How much the graphs of these boards have in common with the rules', and with each other.
struct GraphQuality {
  double precision = 0;       // share of the neighbours that the rules name too
  double recall = 0;          // share of those the rules name
  double stability = 0;       // probability that an edge of one board is one of another, on average
  std::vector<double> edges;  // [cells, cells]: share of the boards where cell i has neighbour j
};
// Throws OptionError without boards, Error where attention is not finite any more.
GraphQuality graph_quality(const GraphLearner& net, std::span<const Board> givens);

}  // namespace stillpoint::sudoku
