// What a solve did, sample by sample. Always returned: a failed solve is never silent.
#pragma once

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <optional>
#include <vector>

namespace stillpoint::implicit {

enum class Reason : uint8_t {
  converged,
  iteration_cap,    // max_iterations were used up
  below_precision,  // the same, but the tolerance is below what the dtype can tell apart and the
                    // residual is of the size of rounding
  non_finite        // f gave NaN or infinity, or numbers too large to measure
};
constexpr const char* name(Reason r) {
  switch (r) {
    case Reason::converged:
      return "converged";
    case Reason::iteration_cap:
      return "iteration cap";
    case Reason::below_precision:
      return "below precision";
    case Reason::non_finite:
      return "non-finite";
  }
  return "";
}

struct SampleReport {
  Reason reason = Reason::iteration_cap;
  double residual = 0;  // of the best iterate
  // Of every iterate; NaN where f was not finite, infinite where a relative one divides by 0.
  std::vector<double> trace = {};

  int iterations() const { return static_cast<int>(trace.size()); }  // evaluations of f
  bool converged() const { return reason == Reason::converged; }
};

struct SolveReport {
  std::vector<SampleReport> samples;
  int evaluations = 0;         // calls of f
  int64_t rows_evaluated = 0;  // samples that f was given, summed over the calls

  // The samples of `next` follow those that are here.
  void add(SolveReport next) {
    samples.insert(samples.end(), std::make_move_iterator(next.samples.begin()),
                   std::make_move_iterator(next.samples.end()));
    evaluations += next.evaluations;
    rows_evaluated += next.rows_evaluated;
  }
  int64_t unconverged() const {
    return std::count_if(samples.begin(), samples.end(),
                         [](const SampleReport& s) { return !s.converged(); });
  }
};

struct Report {
  SolveReport forward;
  // Of the last backward with an Exact adjoint; samples that were left out have no trace.
  std::optional<SolveReport> adjoint;
  int64_t adjoint_solves = 0;       // backward passes so far
  int64_t adjoint_unconverged = 0;  // samples whose solve did not converge, summed over them
  // Samples whose solve or unrolled steps were not finite: no gradient, and none to parameters.
  int64_t left_out = 0;
};

}  // namespace stillpoint::implicit
