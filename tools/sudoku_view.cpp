#include "tools/sudoku_view.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>

#include "models/sudoku/puzzle_text.h"
#include "tools/support/output.h"

namespace stillpoint::tools {
namespace {

using sudoku::Board;

std::string draw_cells(sudoku::Geometry g, const std::function<std::string(int)>& cell) {
  std::string rule = "+";
  for (int b = 0; b < g.box; ++b) {
    rule.append(2 * static_cast<size_t>(g.box) + 1, '-');
    rule += '+';
  }
  std::string text;
  for (int row = 0; row < g.side(); ++row) {
    if (row % g.box == 0) text += rule + '\n';
    for (int column = 0; column < g.side(); ++column) {
      text += column % g.box == 0 ? "| " : "";
      text += cell(row * g.side() + column) + ' ';
    }
    text += "|\n";
  }
  return text + rule + '\n';
}

// From red at a guess among all digits over amber to green at certainty.
std::string colour(double certain, int side) {
  const double guess = 1.0 / side;
  const double t = std::clamp((certain - guess) / (1 - guess), 0.0, 1.0);
  constexpr double kStops[3][3] = {{225, 55, 45}, {225, 165, 30}, {45, 180, 80}};
  const int from = t < 0.5 ? 0 : 1;
  const double part = 2 * t - from;
  int rgb[3];
  for (int k = 0; k < 3; ++k) {
    rgb[k] = static_cast<int>(
        std::lround(kStops[from][k] + part * (kStops[from + 1][k] - kStops[from][k])));
  }
  return fmt::format("\x1b[38;2;{};{};{}m", rgb[0], rgb[1], rgb[2]);
}

}  // namespace

std::string draw(const Board& board) {
  return draw_cells(board.geometry,
                    [&](int cell) { return std::string(1, sudoku::value_to_char(board[cell])); });
}

Watch::Watch(const Board& givens, const sudoku::ThinkOptions& options)
    : givens_(givens),
      iterations_(options.iterations),
      tries_(options.restarts.tries),
      on_terminal_(isatty(STDOUT_FILENO) != 0) {
  if (on_terminal_) write_out("\x1b[?25l");  // no cursor
}

Watch::~Watch() {
  if (on_terminal_) {
    fmt::print("\x1b[0m\x1b[?25h");
    std::fflush(stdout);
  }
}

void Watch::show(const sudoku::Answer& answer, int attempt, int iteration) {
  std::string text = frame(answer, attempt, iteration);
  if (on_terminal_) {
    const auto lines = std::count(text.begin(), text.end(), '\n');
    if (drawn_) text.insert(0, fmt::format("\x1b[{}A", lines));
  } else if (!std::has_single_bit(static_cast<unsigned>(iteration))) {
    return;
  }
  drawn_ = true;
  write_out(text);
}

std::string Watch::frame(const sudoku::Answer& answer, int attempt, int iteration) const {
  const auto cell = [&](int at) {
    const char digit = sudoku::value_to_char(answer.board[at]);
    const double certain = static_cast<double>(answer.certain[static_cast<size_t>(at)]);
    if (!on_terminal_) return std::string(1, givens_[at] != 0 || certain >= 0.5 ? digit : '.');
    if (givens_[at] != 0) {
      return fmt::format("\x1b[1m{}\x1b[0m", sudoku::value_to_char(givens_[at]));
    }
    return fmt::format("{}{}\x1b[0m", colour(certain, givens_.geometry.side()), digit);
  };
  std::string text = draw_cells(givens_.geometry, cell);
  text += fmt::format("iteration {:>3} of {}, certainty {:5.1f} %", iteration, iterations_,
                      100 * answer.certainty);
  if (tries_ > 1) text += fmt::format(", try {} of {}", attempt + 1, tries_);
  return text + (on_terminal_ ? "\x1b[K\n" : "\n\n");
}

}  // namespace stillpoint::tools
