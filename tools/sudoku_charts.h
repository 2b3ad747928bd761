// What `sudoku train` and `sudoku eval` draw.
#pragma once

#include <filesystem>
#include <vector>

#include "models/sudoku/evaluate.h"
#include "models/sudoku/graph_learner.h"
#include "tools/support/chart.h"

namespace stillpoint::tools {

// Boards right against iterations, with 95 % intervals.
Chart accuracy_chart(const sudoku::EvaluateReport& report);

// In how many of the boards every cell has every other for a neighbour, and whom the rules give it.
std::vector<Chart> graph_charts(const sudoku::GraphQuality& quality, sudoku::Geometry geometry);

// Of a run's metrics.jsonl: the last validation against iterations; loss and accuracy against time.
// Throws IoError if the file cannot be read.
std::vector<Chart> training_charts(const std::filesystem::path& metrics);

}  // namespace stillpoint::tools
