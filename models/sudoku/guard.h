// A guard against collapse: it watches the radius of J and the residual of the fixed points, and
// moves the weight of the Jacobian penalty before the solves fail (docs/collapse.md).
#pragma once

#include <cstdint>

namespace stillpoint::sudoku {

struct GuardOptions {
  double limit = 0.9;       // of the radius; more than 0
  double tolerance = 1e-3;  // of the solves: a residual far above it counts as a radius above limit
  double least = 0.03;      // weight of the penalty; more than 0
  double most = 3;
};

// What it does depends on the trend: the next observation is expected as far from the last one as
// that is from the one before (of the residual, in its logarithm). Expected beyond the limit, the
// weight grows by a quarter; else it falls by a fifth. What is not finite is beyond the limit, and
// so is the observation after it, whose trend nobody knows.
class Guard {
 public:
  // Throws OptionError on options outside their range.
  explicit Guard(const GuardOptions& options);

  // Means over some boards at one moment of training; the weight from then on.
  double observe(double radius, double residual);
  double weight() const { return state_.weight; }

  struct State {
    double weight = 0;
    double radius = 0, residual = 0;  // last observed
    bool seen = false;                // anything
  };
  const State& state() const { return state_; }
  // A weight outside the range, as of a guard with other options, is moved into it. Throws
  // OptionError on one that is not finite.
  void restore(const State& state);

 private:
  GuardOptions options_;
  State state_;
};

}  // namespace stillpoint::sudoku
