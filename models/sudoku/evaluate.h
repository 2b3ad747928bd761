// How many boards a network gets right, by the number of refinements.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "models/sudoku/board.h"
#include "models/sudoku/equilibrium.h"
#include "models/sudoku/network.h"
#include "models/sudoku/restarts.h"

namespace stillpoint::sudoku {

// A share of successes with its 95 % interval after Wilson: good at 0 % and 100 % too, where the
// textbook interval has no width. Wilson, "Probable inference, the law of succession, and
// statistical inference", JASA 22 (1927).
struct Proportion {
  double value = 0, low = 0, high = 1;
};
Proportion proportion(int64_t successes, int64_t trials);  // 0 in [0, 1] for no trials

// What a solver did: means over the boards.
struct SolveResult {
  double evaluations = 0;  // of f, in all tries; a solve that does not converge counts at the cap
  double residual = 0;     // relative, of the answer that counts
  double unconverged = 0;  // share of the boards whose answer that counts is no fixed point
};

struct IterationResult {
  int iterations = 0;
  Proportion boards;  // with every cell right
  double cells = 0;   // share of all cells, givens included, that are right
  std::optional<SolveResult> solve = {};
};

// Boards to refine together where nothing is learned: enough to fill the device.
constexpr int64_t default_batch(Device device) { return device == Device::cuda ? 1024 : 32; }

struct EvaluateOptions {
  std::vector<int> iterations = {8, 16, 32, 64, 128};  // ascending, positive
  int64_t batch = default_batch(Device::cpu);          // boards refined together
  // With more tries than one, what counts after n iterations is the answer that `better` picks
  // among those of the tries after n. Puzzles are numbered by their place.
  RestartOptions restarts = {};
  // If given, boards are not refined but solved for their fixed points, with each of the numbers of
  // iterations as the cap; of several tries the one with the least residual counts.
  std::optional<EquilibriumOptions> solve = {};
  // Of a GraphLearner, above 0: refine every board on so many graphs, drawn as in training, and
  // average the digits' probabilities over them; 0: on the most attended neighbours.
  int64_t graphs = 0;
  uint64_t graphs_seed = 1;  // and the puzzle's place: batches change nothing
  // Called after each batch with the number of boards done; returning false stops early, and the
  // result covers the boards done so far.
  std::function<bool(int64_t done)> progress = {};
};

struct EvaluateReport {
  int64_t puzzles = 0;
  // Of the neighbours in all graphs drawn, if any were: the share that the rules name too.
  std::optional<double> drawn_precision = {};
  std::vector<IterationResult> results;  // one per entry of iterations
};

// Answers are the likeliest digit of every cell. A board that is refined and answered validly after
// every one of the numbers of iterations gets no further try. Every puzzle needs a solution; throws
// ShapeError if boards do not fit the network, OptionError on iterations that do not ascend from 1,
// a batch below 1, restarts or a solver that check_options refuses, graphs for another network,
// below 0 or together with tries or a solver.
EvaluateReport evaluate(const Network& net, std::span<const Puzzle> puzzles,
                        const EvaluateOptions& options = {});

}  // namespace stillpoint::sudoku
