// Charts as SVG files, drawn by gnuplot.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace stillpoint::tools {

struct Point {
  double x = 0, y = 0;
  double low = 0, high = 0;  // of an interval around y; equal for none
};

struct Line {
  std::string title;  // empty: not in the key
  std::vector<Point> points;
};

enum class Scale : uint8_t { linear, log2, log10 };

struct Chart {
  std::string x_title, y_title;
  Scale x_scale = Scale::linear, y_scale = Scale::linear;
  bool shares = false;  // y runs from 0 to 1 and is shown in per cent
  std::vector<Line> lines;
  // Instead of lines: a field for each number, white for 0 to dark for 1, rows downwards, counted
  // from 1.
  std::vector<std::vector<double>> fields = {};
};

// Throws Error unless gnuplot can be started: to be called before long work that ends in a chart.
void check_plotter();

// Draws the charts side by side and replaces the file. Throws IoError where the system refuses,
// Error if gnuplot is missing or fails. Takes some 50 ms.
void draw_svg(const std::filesystem::path& file, const std::vector<Chart>& charts);

}  // namespace stillpoint::tools
