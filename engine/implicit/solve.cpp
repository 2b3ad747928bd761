#include "engine/implicit/solve.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <utility>

#include "engine/autograd.h"
#include "engine/ops.h"

namespace stillpoint::implicit {
namespace {

double epsilon_of(DType dtype) {
  return dtype == DType::f64 ? std::numeric_limits<double>::epsilon()
                             : static_cast<double>(std::numeric_limits<float>::epsilon());
}

}  // namespace

Recorder::Recorder(int64_t batch, const Stopping& stopping)
    : stopping_(stopping), done_(static_cast<size_t>(batch), false) {
  report_.samples.resize(static_cast<size_t>(batch));
}

void Recorder::count_evaluation(const Active& active) {
  report_.evaluations += 1;
  report_.rows_evaluated += active.size();
}

// The rule of kernels/solver_check, on the same doubles.
void Recorder::add(int32_t sample, double residual) {
  const auto at = static_cast<size_t>(sample);
  if (done_[at]) return;
  SampleReport& s = report_.samples[at];
  s.trace.push_back(residual);
  if (std::isnan(residual)) s.reason = Reason::non_finite;
  if (residual <= stopping_.tolerance) s.reason = Reason::converged;
  done_[at] = s.reason != Reason::iteration_cap;
}

void Recorder::estimate(int32_t sample, double residual) {
  if (!done(sample)) report_.samples[static_cast<size_t>(sample)].trace.push_back(residual);
}

std::vector<int32_t> Recorder::running(const Active& active) const {
  std::vector<int32_t> left;
  for (const int32_t sample : active.samples)
    if (!done(sample)) left.push_back(sample);
  return left;
}

SolveReport Recorder::finish(const std::vector<double>& best, const std::vector<double>& scale,
                             DType dtype) && {
  const double epsilon = epsilon_of(dtype);
  for (size_t k = 0; k < report_.samples.size(); ++k) {
    SampleReport& s = report_.samples[k];
    const bool relative = stopping_.residual == Residual::relative;
    s.residual = relative && best[k] != 0 ? best[k] / scale[k] : best[k];
    const double unit = relative ? epsilon : epsilon * scale[k];
    if (s.reason == Reason::iteration_cap && stopping_.tolerance < unit && s.residual <= 64 * unit)
      s.reason = Reason::below_precision;
  }
  return std::move(report_);
}

Tensor positions(const std::vector<int32_t>& samples, const Active& active, Device device) {
  std::vector<int32_t> rows;
  for (size_t r = 0; r < active.samples.size() && rows.size() < samples.size(); ++r)
    if (active.samples[r] == samples[rows.size()]) rows.push_back(static_cast<int32_t>(r));
  return Tensor::from(rows, {static_cast<int64_t>(rows.size())}).to(device);
}

Tensor evaluate(const Problem& problem, const Tensor& z) {
  Tensor fz = problem.apply(z).detach();
  check_shape(fz, z.shape(), "fixed_point", "f(z)");
  check_like(fz, z, "fixed_point", "f(z)");
  return fz;
}

namespace {

// The loop, for samples that go through it together.
Solved solve_together(const Problem& problem, const Tensor& z0, const Solver& solver,
                      const Stopping& stopping) {
  const int64_t batch = z0.dim(0);
  const int look_every = stopping.look_every;
  Active active = all_of(batch, z0.device());
  Progress progress(z0, stopping);
  Recorder recorder(batch, stopping);
  const std::unique_ptr<Stepper> stepper = make_stepper(solver, z0);

  Tensor z = z0.detach();
  int unseen = 0;  // checks since the last look
  for (int k = 1; active.size() > 0; ++k) {
    const Tensor fz = evaluate(problem, z);
    recorder.count_evaluation(active);
    progress.check(z, fz, active);
    ++unseen;
    const bool last = k == stopping.max_iterations;
    std::vector<int32_t> running = active.samples;
    if (last || k % look_every == 0) {
      const std::vector<double> residuals = progress.residuals();
      for (int slot = 0; slot < unseen; ++slot)
        for (const int32_t sample : active.samples)
          recorder.add(sample, residuals[static_cast<size_t>(slot * batch + sample)]);
      unseen = 0;
      running = recorder.running(active);
      if (last || running.empty()) break;
    }
    z = stepper->step(z, fz, active, progress.status());
    const auto left = static_cast<double>(running.size()),
               rows = static_cast<double>(active.size());
    if (left < rows && left <= problem.share * rows) {
      z = take_rows(z, positions(running, active, z.device()));
      active = Active(std::move(running), z.device());
      problem.select(active);
    }
  }
  return {progress.best(), std::move(recorder).finish(progress.best_differences(),
                                                      progress.best_scales(), z0.dtype())};
}

// Samples begin, begin + 1, ... of the problem's, numbered from 0.
Problem part_of(const Problem& problem, int64_t begin, Device device) {
  Problem part = problem;
  part.select = [&problem, begin, device](const Active& active) {
    std::vector<int32_t> samples = active.samples;
    for (int32_t& sample : samples) sample += static_cast<int32_t>(begin);
    problem.select(Active(std::move(samples), device));
  };
  return part;
}

}  // namespace

Solved solve(const Problem& problem, const Tensor& z0, const Solver& solver,
             const Stopping& stopping) {
  const NoGrad quiet;
  if (stopping.loop == Loop::graph) return solve_by_graph(problem, z0, solver, stopping);
  const int64_t batch = z0.dim(0), at_a_time = stopping.at_a_time;
  if (z0.device() != Device::cpu || at_a_time == 0 || batch <= at_a_time)
    return solve_together(problem, z0, solver, stopping);
  Solved all{.z = Tensor::empty(z0.shape(), z0.options()), .report = {}};
  for (int64_t begin = 0; begin < batch; begin += at_a_time) {
    const int64_t size = std::min(at_a_time, batch - begin);
    const Problem part = part_of(problem, begin, z0.device());
    const Active group = all_of(size, z0.device());
    part.select(group);
    Solved solved = solve_together(part, ops::rows(z0, begin, size), solver, stopping);
    Tensor place = ops::rows(all.z, begin, size);
    put_rows(solved.z, group.index, place);
    all.report.add(std::move(solved.report));
  }
  return all;
}

}  // namespace stillpoint::implicit
