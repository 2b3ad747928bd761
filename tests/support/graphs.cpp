#include "tests/support/graphs.h"

#include <random>

namespace stillpoint::test {
namespace {

using Rows = std::vector<std::vector<int32_t>>;

Rows random_rows(int rows, int cols, int most, uint32_t seed) {
  std::mt19937 bits(seed);
  Rows result(static_cast<size_t>(rows));
  for (auto& row : result) {
    const auto degree = bits() % static_cast<uint32_t>(most + 1);
    for (uint32_t k = 0; k < degree; ++k)
      row.push_back(static_cast<int32_t>(bits() % static_cast<uint32_t>(cols)));
  }
  return result;
}

}  // namespace

Graph random_graph(int nodes, int most, uint32_t seed) {
  return Graph::from_rows(random_rows(nodes, nodes, most, seed), nodes);
}

Graph sudoku_graph(int box) {
  const int side = box * box;
  Rows rows;
  for (int i = 0; i < side * side; ++i) {
    auto& row = rows.emplace_back();
    for (int j = 0; j < side * side; ++j) {
      const bool same_row = i / side == j / side, same_column = i % side == j % side;
      const bool same_box = i / side / box == j / side / box && i % side / box == j % side / box;
      if (j != i && (same_row || same_column || same_box)) row.push_back(j);
    }
  }
  return Graph::from_rows(rows, side * side);
}

Graph sudoku_factors(int box) {
  const int side = box * box;
  Rows units(static_cast<size_t>(3 * side));
  for (int cell = 0; cell < side * side; ++cell) {
    const int row = cell / side, column = cell % side;
    for (const int unit : {row, side + column, 2 * side + row / box * box + column / box})
      units[static_cast<size_t>(unit)].push_back(cell);
  }
  return Graph::from_rows(units, side * side);
}

std::vector<NamedGraph> awkward_graphs() {
  Rows hub(33), ring(31);
  for (int32_t j = 1; j < 33; ++j) {
    hub[0].push_back(j);
    hub[static_cast<size_t>(j)].push_back(0);
  }
  for (int32_t i = 0; i < 31; ++i) ring[static_cast<size_t>(i)] = {(i + 30) % 31, (i + 1) % 31};
  return {
      {"empty", Graph::from_rows({}, 0)},
      {"one_node", Graph::from_rows({{}}, 1)},
      {"self_loop", Graph::from_rows({{0}}, 1)},
      {"isolated", Graph::from_rows({{1}, {0}, {}, {}}, 4)},
      {"repeats", Graph::from_rows({{1, 1, 1}, {0, 2}, {2, 2}}, 3)},
      {"hub", Graph::from_rows(hub, 33)},
      {"ring", Graph::from_rows(ring, 31)},
      {"random", Graph::from_rows(random_rows(57, 57, 9, 1), 57)},
      {"sudoku", sudoku_graph(3)},
  };
}

std::vector<NamedGraph> awkward_factor_graphs() {
  return {
      {"no_rows", Graph::from_rows({}, 3)},
      {"no_members", Graph::from_rows({{}, {}}, 2)},
      {"one", Graph::from_rows({{0}}, 1)},
      {"wide", Graph::from_rows({{4, 0, 2}, {}, {1, 1}}, 6)},
      {"tall", Graph::from_rows(random_rows(65, 7, 4, 2), 7)},
      {"random", Graph::from_rows(random_rows(24, 81, 9, 3), 81)},
  };
}

}  // namespace stillpoint::test
