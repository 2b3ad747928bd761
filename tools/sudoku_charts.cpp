#include "tools/sudoku_charts.h"

#include <fmt/format.h>

#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "engine/error.h"

namespace stillpoint::tools {
namespace {

Chart against_iterations() {
  return {.x_title = "iterations",
          .y_title = "boards right",
          .x_scale = Scale::log2,
          .shares = true,
          .lines = {}};
}

}  // namespace

Chart accuracy_chart(const sudoku::EvaluateReport& report) {
  Chart chart = against_iterations();
  Line line;
  for (const auto& r : report.results) {
    line.points.push_back(
        {static_cast<double>(r.iterations), r.boards.value, r.boards.low, r.boards.high});
  }
  chart.lines.push_back(std::move(line));
  return chart;
}

std::vector<Chart> graph_charts(const sudoku::GraphQuality& quality, sudoku::Geometry geometry) {
  Chart learned{.x_title = "neighbours chosen", .y_title = "cell", .lines = {}};
  Chart rules{.x_title = "neighbours by the rules", .y_title = "cell", .lines = {}};
  const int cells = geometry.cells();
  for (int i = 0; i < cells; ++i) {
    const auto row = quality.edges.begin() + i * cells;
    learned.fields.emplace_back(row, row + cells);
    rules.fields.emplace_back();
    for (int j = 0; j < cells; ++j)
      rules.fields.back().push_back(i != j && geometry.same_unit(i, j) ? 1 : 0);
  }
  return {std::move(learned), std::move(rules)};
}

std::vector<Chart> training_charts(const std::filesystem::path& metrics) {
  std::ifstream in(metrics);
  check<IoError>(in.good(), "cannot read {}", metrics.string());
  Line loss, last;
  std::map<int, Line> by_iterations;
  for (std::string text; std::getline(in, text);) {
    const auto line = nlohmann::json::parse(text, nullptr, false);
    if (!line.is_object() || !line.contains("seconds")) continue;
    const double minutes = line["seconds"].get<double>() / 60;
    if (line.contains("loss")) loss.points.push_back({minutes, line["loss"].get<double>()});
    if (!line.contains("validation")) continue;
    last.points.clear();
    for (const auto& r : line["validation"]) {
      const int iterations = r["iterations"].get<int>();
      const double right = r["accuracy"].get<double>();
      by_iterations[iterations].points.push_back({minutes, right});
      last.points.push_back({static_cast<double>(iterations), right, r["low"].get<double>(),
                             r["high"].get<double>()});
    }
  }
  Chart iterations = against_iterations();
  iterations.lines.push_back(std::move(last));
  Chart losses{.x_title = "minutes", .y_title = "loss", .y_scale = Scale::log10, .lines = {loss}};
  Chart time{.x_title = "minutes", .y_title = "boards right", .shares = true, .lines = {}};
  for (auto& [n, line] : by_iterations) {
    line.title = fmt::format("{} iterations", n);
    time.lines.push_back(std::move(line));
  }
  return {std::move(iterations), std::move(losses), std::move(time)};
}

}  // namespace stillpoint::tools
