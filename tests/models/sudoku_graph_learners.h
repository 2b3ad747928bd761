// What tests of GraphLearner share.
#pragma once

#include <cstdint>
#include <vector>

#include "models/sudoku/generator.h"
#include "models/sudoku/network.h"

namespace stillpoint::sudoku {

inline NetworkOptions small(LearnedGraphOptions learned = {}) {
  learned.width = 8;
  learned.heads = 2;
  return {.model = Model::learned_graph, .geometry = {2}, .channels = 6, .learned = learned};
}

// With their answers, from 0.
struct Boards {
  std::vector<Board> givens;
  std::vector<int32_t> digits;
};
inline Boards some_boards(int64_t count) {
  Boards all;
  for (const auto& made : generate({.geometry = {2}, .seed = 3}, 0, count)) {
    all.givens.push_back(made.givens);
    for (int cell = 0; cell < 16; ++cell) all.digits.push_back(made.solution[cell] - 1);
  }
  return all;
}

}  // namespace stillpoint::sudoku
