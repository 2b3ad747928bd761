#include "models/sudoku/answer.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>

#include "engine/error.h"

namespace stillpoint::sudoku {
namespace {

// 1 / sum of exp(x - largest): the softmax at the largest element.
float largest_probability(std::span<const float> x, float largest) {
  float sum = 0;
  for (const float value : x) sum += std::exp(value - largest);
  return 1 / sum;
}

Answer read_answer(std::span<const float> logits, const Board& givens) {
  const Geometry g = givens.geometry;
  const auto side = static_cast<size_t>(g.side());
  Answer answer;
  answer.board.geometry = g;
  for (int cell = 0; cell < g.cells(); ++cell) {
    const auto digits = logits.subspan(static_cast<size_t>(cell) * side, side);
    const auto best = std::max_element(digits.begin(), digits.end());
    answer.board[cell] = static_cast<uint8_t>(best - digits.begin() + 1);
    answer.certain.push_back(largest_probability(digits, *best));
  }
  const double sum = std::accumulate(answer.certain.begin(), answer.certain.end(), 0.0);
  answer.certainty = sum / static_cast<double>(g.cells());
  answer.valid = solves(answer.board, givens);
  return answer;
}

}  // namespace

bool solves(const Board& answer, const Board& givens) {
  if (answer.geometry != givens.geometry) return false;
  for (int cell = 0; cell < givens.geometry.cells(); ++cell) {
    if (givens[cell] != 0 && givens[cell] != answer[cell]) return false;
  }
  return is_solved(answer);
}

std::vector<Answer> read_answers(const Tensor& logits, std::span<const Board> givens) {
  if (givens.empty()) return {};
  const Geometry g = givens[0].geometry;
  const auto boards = static_cast<int64_t>(givens.size());
  check_shape(logits, {boards, g.cells(), g.side()}, "read_answers", "logits");
  const std::vector<float> values = logits.to_vector<float>();
  const auto size = static_cast<size_t>(g.cells()) * static_cast<size_t>(g.side());
  std::vector<Answer> answers;
  for (size_t b = 0; b < givens.size(); ++b) {
    check<ShapeError>(givens[b].geometry == g, "read_answers: boards of box sizes {} and {}", g.box,
                      givens[b].geometry.box);
    answers.push_back(read_answer(std::span(values).subspan(b * size, size), givens[b]));
  }
  return answers;
}

bool better(const Answer& a, const Answer& b) {
  if (a.valid != b.valid) return a.valid;
  return a.certainty > b.certainty;
}

}  // namespace stillpoint::sudoku
