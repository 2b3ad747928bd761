#include "tools/sudoku_page.h"

#include <cmath>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "engine/io/atomic_file.h"
#include "models/sudoku/puzzle_text.h"
#include "tools/sudoku_page_template.h"

namespace stillpoint::tools {
namespace {

using Json = nlohmann::ordered_json;

// Thousandths: what a page can show.
int64_t rounded(double p) { return std::lround(1000 * p); }

Json data(const sudoku::Board& givens, const sudoku::Thought& thought,
          const std::vector<sudoku::Answer>& frames) {
  auto list = Json::array();
  for (const sudoku::Answer& answer : frames) {
    auto certain = Json::array();
    for (const float p : answer.certain) certain.push_back(rounded(static_cast<double>(p)));
    list.push_back({{"digits", to_string(answer.board)},
                    {"certain", std::move(certain)},
                    {"certainty", rounded(answer.certainty)},
                    {"valid", answer.valid}});
  }
  return {{"box", givens.geometry.box},
          {"puzzle", to_string(givens)},
          {"attempt", thought.attempt + 1},
          {"frames", std::move(list)}};
}

}  // namespace

void Recorder::add(const sudoku::ThinkStep& step) {
  if (step.attempt != current_.attempt) {
    // The try before is over, without a valid answer; the rule of think() decides which to keep.
    if (best_.answers.empty() ||
        (!current_.answers.empty() && better(current_.answers.back(), best_.answers.back()))) {
      best_ = std::move(current_);
    }
    current_ = {step.attempt, {}};
  }
  current_.answers.push_back(step.answer);
}

const std::vector<sudoku::Answer>& Recorder::frames(const sudoku::Thought& thought) const {
  return thought.attempt == current_.attempt ? current_.answers : best_.answers;
}

void write_page(const std::filesystem::path& file, const sudoku::Board& givens,
                const sudoku::Thought& thought, const std::vector<sudoku::Answer>& frames) {
  constexpr std::string_view kPlace = "null /* the data */";
  std::string page = kSudokuPage;
  page.replace(page.find(kPlace), kPlace.size(), data(givens, thought, frames).dump());
  io::AtomicFile out(file);
  out.write(page.data(), page.size());
  out.commit();
}

}  // namespace stillpoint::tools
