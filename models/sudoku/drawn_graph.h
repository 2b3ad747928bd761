// Boards and the neighbours chosen for them, as the int32 tensor that GraphLearner refines on.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/graph.h"
#include "engine/tensor.h"
#include "models/sudoku/board.h"

namespace stillpoint::sudoku {

// Of every cell the digit given, 0 if it is blank.
std::vector<int32_t> values_of(std::span<const Board> boards);

// The neighbours, row by row. Throws Error where one is missing, which is where the attention was
// not finite.
std::vector<int32_t> complete(const Tensor& neighbours);

// [boards, cells] and [boards, cells, k] -> [boards, cells, 1 + k]. Throws as `complete`.
Tensor packed(const std::vector<int32_t>& digits, const Tensor& neighbours);

// What packed made, as the cells of all boards in one graph, which has edges within boards alone.
struct Unpacked {
  Tensor digits;  // [1, boards cells]
  Graph graph;    // [boards cells, boards cells]
};
Unpacked unpacked(const Tensor& puzzles);

}  // namespace stillpoint::sudoku
