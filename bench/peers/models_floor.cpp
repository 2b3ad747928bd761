#include "bench/peers/models_floor.h"

#include <algorithm>

#include "bench/support/ceiling.h"
#include "kernels/common/parallel.h"

namespace stillpoint::bench {
namespace {

constexpr double kCells = 81, kDigits = 9, kCandidates = 729, kFactors = 324;

// Numbers that a board keeps for its backward and moves, in units of one number a step.
struct Board {
  double step_flops;     // the products of one refinement
  double readout_flops;  // of one state
  double state;          // numbers of h
  double kept;           // numbers that a step of the forward keeps for the backward, states aside
  double input;          // numbers that encode the puzzle
};

Board refine_board(double h) {
  const double state = kCells * h;
  return {.step_flops = 16 * state * h,
          .readout_flops = 2 * state * kDigits,
          .state = state,
          .kept = 7 * state,
          .input = 3 * state};
}

Board symbol_board(double c) {
  return {.step_flops = (14 * kCandidates + 6 * kFactors) * c * c,
          .readout_flops = 2 * kCandidates * c,
          .state = kCandidates * c,
          .kept = kCandidates * (2 * c + 1),
          .input = kCandidates};
}

}  // namespace

double Floor::products() const { return flops / std::max(multiply_add_rate, library_rate); }

Floor measure_floor(const Task& task) {
  const bool refine = task.model == sudoku::Model::refine;
  const int64_t c = task.channels;
  const Board b =
      refine ? refine_board(static_cast<double>(c)) : symbol_board(static_cast<double>(c));
  const auto boards = static_cast<double>(task.boards), steps = static_cast<double>(task.steps);
  Floor f;
  double held = 0;  // numbers of one board
  if (task.train) {
    // Forward and two products of the same size for each of its own.
    f.flops = 3 * boards * steps * (b.step_flops + b.readout_flops);
    // States: written, read by the readout and by the backward. Their gradients and what is kept:
    // written and read. The input and the start: written and read, and their gradients.
    f.bytes = 4 * boards * (steps * (5 * b.state + 2 * b.kept) + 4 * (b.input + b.state));
    held = steps * (2 * b.state + b.kept);
  } else {
    f.flops = boards * (steps * b.step_flops + b.readout_flops);
    f.bytes = 4 * boards * (2 * b.input + 3 * b.state);
    held = b.input + b.state;
  }
  // A slice is a thread's in training, all threads' in inference.
  const int64_t slices = task.train ? (task.boards + task.slice() - 1) / task.slice() : 1;
  const auto together = static_cast<double>(std::min(task.slice(), task.boards) *
                                            std::min<int64_t>(slices, kernels::num_threads()));
  f.stream_rate = stream_rate(static_cast<int64_t>(4 * held * together));
  f.multiply_add_rate = multiply_add_rate();
  if (refine) {
    f.library_rate = std::max(product_rate(81, 5 * c, c),
                              std::max(product_rate(81, c, 3 * c), product_rate(5 * c, c, 81)));
  } else {
    f.library_rate = std::max(product_rate(729, 2 * c, 2 * c), product_rate(2 * c, c, 729));
  }
  return f;
}

}  // namespace stillpoint::bench
