// One board through a network.
#pragma once

#include <span>
#include <vector>

#include "engine/autograd.h"
#include "models/sudoku/network.h"

namespace stillpoint::sudoku {

inline std::vector<float> logits_after(const Network& net, const Board& board, int iterations) {
  const NoGrad no_grad;
  const Tensor x = net.encode(std::span(&board, 1));
  Tensor h = net.start(1);
  for (int t = 0; t < iterations; ++t) h = net.refine(h, x);
  return net.logits(h).to_vector<float>();
}

}  // namespace stillpoint::sudoku
