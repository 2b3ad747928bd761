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
  return net.logits(net.refine(net.start(1), x, iterations)).to_vector<float>();
}

}  // namespace stillpoint::sudoku
