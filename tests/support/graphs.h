// The patterns that every op on a graph is tested with.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/graph.h"

namespace stillpoint::test {

struct NamedGraph {
  std::string name;
  Graph graph;
};

// Square patterns: none, one node, isolated nodes, a self-loop, a hub, repeated edges, a ring of
// fixed degree, random degrees, the 81 cells of a Sudoku.
std::vector<NamedGraph> awkward_graphs();
// Rectangular patterns: rows that share columns, an empty row, an unused column.
std::vector<NamedGraph> awkward_factor_graphs();
// `nodes` nodes, each of which listens to 0 to `most` others.
Graph random_graph(int nodes, int most, uint32_t seed);
// Every cell of a box^2 x box^2 Sudoku with the other cells of its row, column and box.
Graph sudoku_graph(int box);
// Its rows, columns and boxes: 3 box^2 factors of box^2 cells each; every cell is in 3.
Graph sudoku_factors(int box);

}  // namespace stillpoint::test
