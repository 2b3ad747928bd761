// What tests of equilibrium networks share.
#pragma once

#include <vector>

#include "models/sudoku/trainer.h"

namespace stillpoint::sudoku {

inline TrainOptions options4(Model model = Model::symbol, EquilibriumOptions equilibrium = {}) {
  CarryOptions carry = carry_options(Regime::equilibrium);
  carry.puzzles = {.geometry = {2}, .minimal_share = 0.7};
  carry.boards = 10;
  carry.slice = 4;
  carry.equilibrium = equilibrium;
  return {.net = {.model = model, .geometry = {2}, .channels = 8},
          .carry = carry,
          .learning_rate = 1e-2,
          .warmup = 10};
}

inline std::vector<Puzzle> puzzles4(int count) {
  std::vector<Puzzle> puzzles;
  for (const auto& made : generate({.geometry = {2}, .use = PuzzleUse::evaluation}, 0, count))
    puzzles.push_back({made.givens, made.solution});
  return puzzles;
}

inline std::vector<Board> givens_of(const std::vector<Puzzle>& puzzles) {
  std::vector<Board> givens;
  for (const Puzzle& puzzle : puzzles) givens.push_back(puzzle.givens);
  return givens;
}

// Every parameter in one row, by name.
inline std::vector<float> values(const NamedTensors& tensors) {
  std::vector<float> all;
  for (const auto& [name, tensor] : tensors) {
    const auto some = tensor.to_vector<float>();
    all.insert(all.end(), some.begin(), some.end());
  }
  return all;
}

}  // namespace stillpoint::sudoku
