// One web page that shows a network at work on a board.
#pragma once

#include <filesystem>
#include <vector>

#include "models/sudoku/think.h"

namespace stillpoint::tools {

// Keeps the answers of the try that the final answer is from.
class Recorder {
 public:
  void add(const sudoku::ThinkStep& step);
  const std::vector<sudoku::Answer>& frames(const sudoku::Thought& thought) const;

 private:
  struct Tried {
    int attempt = -1;
    std::vector<sudoku::Answer> answers;
  };
  Tried best_, current_;
};

// Replaces the file by a page that needs nothing else: a slider over the frames, a play button, the
// board from red to green, the curve of certainty. Throws IoError.
void write_page(const std::filesystem::path& file, const sudoku::Board& givens,
                const sudoku::Thought& thought, const std::vector<sudoku::Answer>& frames);

}  // namespace stillpoint::tools
