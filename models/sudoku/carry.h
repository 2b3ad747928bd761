// Training, in one of three regimes.
//
// carry: a pool of boards keeps the states that the network has refined them to. One
// step refines every board a few times more, with a loss after each refinement, differentiates
// through this window alone and carries the new states on, detached. So the network learns to go on
// from states far beyond the window, at the memory of the window. A board leaves after a number of
// windows, or sooner by chance once it is solved, so that hard boards stay longer.
//
// unroll: every board is fresh in every step and leaves after it; the window is all its life. That
// is carry with one window a board, and needs a longer one.
//
// equilibrium: every board is fresh as in unroll, and refined to its fixed point by a solver, whose
// steps are not differentiated through. EquilibriumOptions say where losses are read.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "engine/random.h"
#include "models/sudoku/equilibrium.h"
#include "models/sudoku/generator.h"
#include "models/sudoku/network.h"
#include "models/sudoku/slices.h"

namespace stillpoint::sudoku {

enum class Regime : uint8_t { carry, unroll, equilibrium };
const char* name(Regime regime);

struct CarryOptions {
  GeneratorOptions puzzles = {.minimal_share = 0.5};
  int64_t boards = 32;  // in the pool
  int64_t slice = 4;    // refined together: sets memory, and the order in which gradients add up;
                        // default_slice() says which is fast
  int window = 16;      // refinements a step
  int segments = 4;     // windows after which a board leaves
  double leave = 0.3;   // probability of leaving after a window that ends solved
  // Fixed points instead of windows; segments is then 1.
  std::optional<EquilibriumOptions> equilibrium = {};
};

// The defaults of a regime.
CarryOptions carry_options(Regime regime);
// Boards to refine together. On the CPU 1: more take memory and no less time (docs/benchmarks.md);
// 4 on the way to fixed points, where noise is for every other board of a slice. On CUDA 256, a
// block each. For GraphLearner 8 on both: its draws, and the baselines that they are compared with,
// are a slice's.
int64_t default_slice(Model model, Regime regime, Device device);
Regime regime_of(const CarryOptions& options);

// What one window gave.
struct CarryReport {
  double loss = 0;       // mean over boards, refinements and cells
  int64_t solved = 0;    // boards whose every cell was right at the end of the window
  int64_t replaced = 0;  // boards that left afterwards
  EquilibriumReport equilibrium = {};
};

class CarryPool {
 public:
  // Boards start at staggered ages, so that they do not all leave together. Throws OptionError on
  // options that leave nothing to do.
  explicit CarryPool(const CarryOptions& options);

  // One window for every board, on the device of `net`: adds the gradient of the mean loss to its
  // parameters, carries the states on and replaces the boards that leave.
  // `after_slice` is called whenever the gradient of one more slice is added, in their order. After
  // an exception the pool is good for nothing more: some boards were carried on.
  CarryReport step(const Network& net, const std::function<void()>& after_slice = {});

  // Of the steps to come; wanted with fixed points.
  void set_jacobian_penalty(double weight) { options_.equilibrium->jacobian_penalty = weight; }

  // Everything that decides the steps to come. Boards are made again from their indices.
  struct State {
    std::vector<int64_t> puzzles;  // [boards] indices into the generator's sequence
    std::vector<int32_t> ages;     // [boards] windows so far, the staggering at the start included
    std::vector<int32_t> fresh;    // [boards] 1: the next window begins at the network's start
    Tensor states;                 // [boards, nodes, channels]; undefined before the first step
    int64_t next_puzzle = 0;
    Philox::State random = {};
  };
  const State& state() const { return state_; }
  // Goes on where a pool was. Throws ShapeError or OptionError unless it is the state of a pool
  // with these options that trained such a network.
  CarryPool(const CarryOptions& options, State state, const Network& net);

 private:
  void draw(const std::vector<int64_t>& slots);
  Tensor window_start(const Network& net, int64_t begin, int64_t size) const;
  AfterSlice window(const Network& net, int64_t begin, int64_t size, CarryReport& report,
                    std::span<char> solved);

  CarryOptions options_;
  State state_;
  std::vector<Board> givens_, solutions_;  // [boards]
  std::deque<GeneratedPuzzle> ahead_;      // from next_puzzle on: hard ones are made in climbs
};

}  // namespace stillpoint::sudoku
