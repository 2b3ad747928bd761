// The loop that all solvers share: evaluate, check, step, let samples leave. For the files of
// engine/implicit/ only.
#pragma once

#include <functional>

#include "engine/implicit/report.h"
#include "engine/implicit/solver_state.h"

namespace stillpoint::implicit {

struct Problem {
  // f of the rows of the active samples.
  std::function<Tensor(const Tensor& z)> apply;
  // From now on apply gets these samples only.
  std::function<void(const Active& active)> select;
  // Samples leave once those still running are at most this share of the rows: less than 1 where
  // select is dear.
  double share = 1.0;
};

struct Solved {
  Tensor z;  // [batch, ...]: the best iterate of every sample
  SolveReport report;
};

// Runs under NoGrad, by the loop that `stopping` names. Throws ShapeError or TypeError if apply
// gives something unlike z.
Solved solve(const Problem& problem, const Tensor& z0, const Solver& solver,
             const Stopping& stopping);

// The same by a loop on the device, for Loop::graph. Throws OptionError if z0 is not on a CUDA
// device, DeviceError if an iteration cannot be captured.
Solved solve_by_graph(const Problem& problem, const Tensor& z0, const Solver& solver,
                      const Stopping& stopping);
// apply(z), checked.
Tensor evaluate(const Problem& problem, const Tensor& z);

// Keeps the books of a solve on the host: traces, who is still running, reasons.
class Recorder {
 public:
  Recorder(int64_t batch, const Stopping& stopping);

  void count_evaluation(const Active& active);
  // Adds the residual of a sample's iterate to its trace and notes whether the sample is done.
  void add(int32_t sample, double residual);
  // Adds what the residual is believed to be; it decides nothing.
  void estimate(int32_t sample, double residual);
  bool done(int32_t sample) const { return done_[static_cast<size_t>(sample)]; }
  // The samples of `active` that are not done.
  std::vector<int32_t> running(const Active& active) const;
  // `best` and `scale` are |f(z) - z| and |f(z)| of the iterates that are returned.
  SolveReport finish(const std::vector<double>& best, const std::vector<double>& scale,
                     DType dtype) &&;

 private:
  Stopping stopping_;
  SolveReport report_;
  std::vector<bool> done_;
};

// The positions of `samples` (ascending, a part of `active`) among the rows of `active`.
Tensor positions(const std::vector<int32_t>& samples, const Active& active, Device device);

}  // namespace stillpoint::implicit
