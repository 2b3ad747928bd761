// What `sudoku train` and `sudoku eval` draw.
#pragma once

#include <filesystem>

#include "models/sudoku/evaluate.h"
#include "tools/support/chart.h"

namespace stillpoint::tools {

// Boards right against iterations, with 95 % intervals.
Chart accuracy_chart(const sudoku::EvaluateReport& report);

// Of a run's metrics.jsonl: the last validation against iterations; loss and accuracy against time.
// Throws IoError if the file cannot be read.
std::vector<Chart> training_charts(const std::filesystem::path& metrics);

}  // namespace stillpoint::tools
