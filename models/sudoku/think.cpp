#include "models/sudoku/think.h"

#include <algorithm>

#include "engine/autograd.h"
#include "engine/error.h"

namespace stillpoint::sudoku {
namespace {

// The boards of one try that are still refined; rows of the tensors belong to them in order.
class Try {
 public:
  Try(const Network& net, std::span<const Board> givens, const ThinkOptions& options, int attempt,
      std::vector<int64_t> boards)
      : net_(net), all_givens_(givens), options_(options), attempt_(attempt) {
    std::vector<int64_t> numbers;
    for (const int64_t board : boards) numbers.push_back(options.first_number + board);
    h_ = start_try(net, numbers, attempt, options.restarts);
    take(std::move(boards));
    lingered_.resize(boards_.size());
  }

  // False if the observer stopped it.
  bool run(std::vector<Thought>& thoughts) {
    for (int n = 1; n <= options_.iterations && !boards_.empty(); ++n) {
      h_ = net_.refine(h_, x_);
      const std::vector<Answer> answers = read_answers(net_.logits(h_), givens_);
      std::vector<int32_t> keep;  // rows
      for (size_t row = 0; row < answers.size(); ++row) {
        const Answer& answer = answers[row];
        const int64_t board = boards_[row];
        Thought& thought = thoughts[static_cast<size_t>(board)];
        const bool first = thought.iterations == 0;
        if ((answer.valid || n == options_.iterations) &&
            (first || better(answer, thought.answer))) {
          thought = {answer, attempt_, n};
        }
        if (options_.observe && !options_.observe({board, attempt_, n, answer})) return false;
        if (!thought.answer.valid || lingered_[row]++ < options_.linger) {
          keep.push_back(static_cast<int32_t>(row));
        }
      }
      if (keep.size() < boards_.size()) drop_all_but(keep);
    }
    return true;
  }

 private:
  void take(std::vector<int64_t> boards) {
    boards_ = std::move(boards);
    givens_.clear();
    for (const int64_t board : boards_) givens_.push_back(all_givens_[static_cast<size_t>(board)]);
    x_ = net_.encode(givens_);
  }

  void drop_all_but(const std::vector<int32_t>& rows) {
    std::vector<int64_t> boards;
    std::vector<int> lingered;
    for (const int32_t row : rows) {
      boards.push_back(boards_[static_cast<size_t>(row)]);
      lingered.push_back(lingered_[static_cast<size_t>(row)]);
    }
    lingered_ = std::move(lingered);
    if (rows.empty()) {
      boards_.clear();
      return;
    }
    h_ = keep_boards(h_, rows);
    take(std::move(boards));
  }

  const Network& net_;
  const std::span<const Board> all_givens_;
  const ThinkOptions& options_;
  const int attempt_;
  std::vector<int64_t> boards_;
  std::vector<Board> givens_;
  std::vector<int> lingered_;  // iterations since the valid answer
  Tensor x_, h_;
};

}  // namespace

std::vector<Thought> think(const Network& net, std::span<const Board> givens,
                           const ThinkOptions& options) {
  check_options(options.restarts);
  check<OptionError>(options.iterations >= 1, "think: {} iterations; wanted 1 or more",
                     options.iterations);
  check<OptionError>(options.linger >= 0, "think: linger {}; wanted 0 or more", options.linger);
  const NoGrad no_grad;
  std::vector<Thought> thoughts(givens.size());
  for (int attempt = 0; attempt < options.restarts.tries; ++attempt) {
    std::vector<int64_t> open;
    for (size_t b = 0; b < givens.size(); ++b) {
      if (!thoughts[b].answer.valid) open.push_back(static_cast<int64_t>(b));
    }
    if (open.empty()) break;
    if (!Try(net, givens, options, attempt, std::move(open)).run(thoughts)) break;
  }
  return thoughts;
}

}  // namespace stillpoint::sudoku
