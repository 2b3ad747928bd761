#include "models/sudoku/drawn_graph.h"

#include <algorithm>

#include "engine/error.h"

namespace stillpoint::sudoku {

std::vector<int32_t> values_of(std::span<const Board> boards) {
  std::vector<int32_t> values;
  for (const Board& board : boards)
    for (int cell = 0; cell < board.geometry.cells(); ++cell) values.push_back(board[cell]);
  return values;
}

std::vector<int32_t> complete(const Tensor& neighbours) {
  std::vector<int32_t> lists = neighbours.to_vector<int32_t>();
  check<Error>(std::ranges::all_of(lists, [](int32_t j) { return j >= 0; }),
               "learned graph: the attention is not finite");
  return lists;
}

Tensor packed(const std::vector<int32_t>& digits, const Tensor& neighbours) {
  const std::vector<int32_t> lists = complete(neighbours);
  const int64_t k = neighbours.dim(2);
  std::vector<int32_t> all;
  for (size_t cell = 0; cell < digits.size(); ++cell) {
    all.push_back(digits[cell]);
    const auto first = lists.begin() + static_cast<ptrdiff_t>(cell) * k;
    all.insert(all.end(), first, first + k);
  }
  return Tensor::from(all, {neighbours.dim(0), neighbours.dim(1), 1 + k}).to(neighbours.device());
}

Unpacked unpacked(const Tensor& puzzles) {
  const int64_t boards = puzzles.dim(0), cells = puzzles.dim(1), k = puzzles.dim(2) - 1;
  const std::vector<int32_t> all = puzzles.to_vector<int32_t>();
  std::vector<int32_t> digits, neighbours;
  for (auto cell = all.begin(); cell != all.end(); cell += 1 + k) {
    digits.push_back(*cell);
    neighbours.insert(neighbours.end(), cell + 1, cell + 1 + k);
  }
  const Device device = puzzles.device();
  const Tensor lists = Tensor::from(neighbours, {boards, cells, k}).to(device);
  return {Tensor::from(digits, {1, boards * cells}).to(device),
          Graph::from_neighbours(lists, cells)};
}

}  // namespace stillpoint::sudoku
