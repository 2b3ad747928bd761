#include "engine/implicit/adjoint.h"

#include <cmath>
#include <optional>
#include <utility>

#include "engine/implicit/application.h"
#include "engine/implicit/gmres.h"
#include "engine/implicit/solve.h"
#include "engine/ops.h"

namespace stillpoint::implicit {
namespace {

// Samples leave an adjoint solve when half of them are done: the Jacobian is then taken anew for
// the rest, which costs an application of f.
constexpr double kShare = 0.5;

// S_1 = damping g, S_{t+1} = damping (J^T S_t + g) + (1 - damping) S_t.
Tensor damped_sum(const Segment& jacobian, const Tensor& g, int steps, double damping) {
  Tensor u = ops::affine(g, damping);
  for (int t = 1; t < steps; ++t)
    u = ops::add(ops::affine(ops::add(transposed(jacobian, u), g), damping),
                 ops::affine(u, 1 - damping));
  return u;
}

// All that the backward needs. The tape holds the samples that are finite up to its end.
struct Backward {
  Map f;
  Segment tape;
  Tensor kept;  // their numbers, if not all
  int64_t batch = 0;
  Adjoint adjoint;
  std::shared_ptr<Report> report;

  Gradients operator()(std::span<const Tensor> g) const;
  // The Jacobian at the rows of `index`, or at all: one more application of f, which is dropped
  // when the solve is over. A product on the tape itself would form every parameter's gradient too.
  Segment jacobian(const Tensor& index = {}) const;
  Tensor solve_for(const Tensor& g) const;
  Tensor solve_exactly(const Exact& exact, const Tensor& g) const;
  void replace_failures(const Exact& exact, const SolveReport& found, const Tensor& g,
                        Tensor& u) const;
  void write_report(SolveReport found) const;
};

Segment Backward::jacobian(const Tensor& index) const {
  std::vector<Tensor> rows;
  for (const Tensor& t : tape.inputs) rows.push_back(index ? take_rows(t, index) : t);
  return jacobian_at(f, rows[0], {rows.begin() + 1, rows.end()});
}

Tensor Backward::solve_exactly(const Exact& exact, const Tensor& g) const {
  std::optional<Segment> active_jacobian;
  Tensor active_g = g;
  const auto product = [&](const Tensor& v) {
    if (!active_jacobian) active_jacobian = jacobian();
    return transposed(*active_jacobian, v);
  };
  Problem problem{.apply = product,
                  .select =
                      [&](const Active& active) {
                        active_jacobian = jacobian(active.index);
                        active_g = take_rows(g, active.index);
                      },
                  .share = kShare};
  const auto with = [&](const auto& solver) -> Solved {
    if constexpr (std::is_same_v<std::decay_t<decltype(solver)>, Gmres>) {
      return solve_gmres(problem, g, solver, exact.stopping);
    } else {
      problem.apply = [&](const Tensor& u) { return ops::add(product(u), active_g); };
      return solve(problem, g, solver, exact.stopping);
    }
  };
  Solved solved = std::visit(with, exact.solver);
  replace_failures(exact, solved.report, g, solved.z);
  write_report(std::move(solved.report));
  return solved.z;
}

void Backward::replace_failures(const Exact& exact, const SolveReport& found, const Tensor& g,
                                Tensor& u) const {
  std::vector<int32_t> failed;
  for (size_t k = 0; k < found.samples.size(); ++k) {
    const Reason reason = found.samples[k].reason;
    if (reason == Reason::iteration_cap || reason == Reason::non_finite)
      failed.push_back(static_cast<int32_t>(k));
  }
  if (failed.empty() || exact.on_failure == OnFailure::keep_best) return;
  const SampleReport& first = found.samples[static_cast<size_t>(failed[0])];
  check<GradientError>(exact.on_failure != OnFailure::error,
                       "fixed_point: the adjoint solve of {} of {} samples did not converge; the "
                       "first, sample {}, ended after {} iterations ({}) with residual {}",
                       failed.size(), found.samples.size(), failed[0], first.iterations(),
                       name(first.reason), first.residual);
  const PhantomGradient phantom;
  const Tensor replacement = exact.on_failure == OnFailure::one_step
                                 ? g
                                 : damped_sum(jacobian(), g, phantom.steps, phantom.damping);
  const Active rows(std::move(failed), g.device());
  put_rows(take_rows(replacement, rows.index), rows.index, u);
}

// In the numbering of the whole batch.
void Backward::write_report(SolveReport found) const {
  report->adjoint_solves += 1;
  report->adjoint_unconverged += found.unconverged();
  if (kept) {
    std::vector<SampleReport> all(static_cast<size_t>(batch), {.reason = Reason::non_finite});
    size_t k = 0;
    for (const int32_t sample : kept.to_vector<int32_t>())
      all[static_cast<size_t>(sample)] = std::move(found.samples[k++]);
    found.samples = std::move(all);
  }
  report->adjoint = std::move(found);
}

Tensor Backward::solve_for(const Tensor& g) const {
  struct Visitor {
    const Backward& b;
    const Tensor& g;
    Tensor operator()(const Exact& o) const { return b.solve_exactly(o, g); }
    Tensor operator()(const PhantomGradient& o) const {
      return damped_sum(b.jacobian(), g, o.steps, o.damping);
    }
    Tensor operator()(const OneStep&) const { return g; }
    Tensor operator()(const UnrolledPhantomGradient&) const { return g; }
    Tensor operator()(const Neumann& o) const { return damped_sum(b.jacobian(), g, o.terms, 1.0); }
  };
  return std::visit(Visitor{*this, g}, adjoint);
}

Gradients Backward::operator()(std::span<const Tensor> g) const {
  check<GradientError>(!grad_enabled(), "fixed_point: has no second derivative");
  const Tensor u = solve_for(kept ? take_rows(g[0], kept) : g[0]);
  std::vector<Tensor> targets;
  for (size_t k = 1; k < tape.inputs.size(); ++k)
    if (tape.inputs[k].requires_grad()) targets.push_back(tape.inputs[k]);
  targets.insert(targets.end(), tape.captured.begin(), tape.captured.end());
  const std::vector<Tensor> found = autograd::segment_vjp(tape, targets, u, {.retain_graph = true});
  Gradients gradients;
  size_t next = 0;
  for (size_t k = 1; k < tape.inputs.size(); ++k) {
    gradients.emplace_back();
    if (!tape.inputs[k].requires_grad()) continue;
    gradients.back() = found[next++];
    if (!kept) continue;
    Shape shape = gradients.back().shape();
    shape[0] = batch;
    Tensor whole = Tensor::zeros(std::move(shape), gradients.back().options());
    put_rows(gradients.back(), kept, whole);
    gradients.back() = whole;
  }
  gradients.insert(gradients.end(), found.begin() + static_cast<int64_t>(next), found.end());
  return gradients;
}

// damping f(z) + (1 - damping) z, again and again.
Map repeated(const Map& f, const UnrolledPhantomGradient& unrolled) {
  return [&f, unrolled](Tensor z, std::span<const Tensor> inputs) {
    for (int k = 0; k < unrolled.steps; ++k) {
      const Tensor next = f(z, inputs);
      z = unrolled.damping == 1
              ? next
              : ops::add(ops::affine(next, unrolled.damping), ops::affine(z, 1 - unrolled.damping));
    }
    return z;
  };
}

// The samples, numbered as in `among`, that are finite in `z`, as far as their sums tell.
std::vector<int32_t> finite_samples(const Tensor& z, const std::vector<int32_t>& among) {
  if (among.empty()) return {};
  const NoGrad no_grad;
  const Tensor rows = ops::reshape(z, {z.dim(0), z.numel() / z.dim(0)});
  const std::vector<double> sums =
      ops::sum(rows, 1).to(Device::cpu).to(DType::f64).to_vector<double>();
  std::vector<int32_t> finite;
  for (size_t k = 0; k < among.size(); ++k)
    if (std::isfinite(sums[k])) finite.push_back(among[k]);
  return finite;
}

}  // namespace

Tensor record_adjoint(const Map& f, Tensor z, std::vector<Tensor> inputs,
                      const FixedPointOptions& options, const std::shared_ptr<Report>& report) {
  const int64_t batch = z.dim(0);
  const auto* unrolled = std::get_if<UnrolledPhantomGradient>(&options.adjoint);
  const Map on_tape = repeated(f, unrolled ? *unrolled : UnrolledPhantomGradient{.steps = 1});
  Backward backward{
      .f = f, .tape = {}, .kept = {}, .batch = batch, .adjoint = options.adjoint, .report = report};
  const auto apply_to = [&](const std::vector<int32_t>& samples) {
    report->left_out = batch - std::ssize(samples);
    if (report->left_out == 0) {
      backward.tape = application_at(on_tape, z, inputs);
      return;
    }
    backward.kept = Active(samples, z.device()).index;
    std::vector<Tensor> taken;
    for (const Tensor& t : inputs) {
      taken.push_back(take_rows(t, backward.kept));
      if (t.requires_grad()) taken.back().set_requires_grad();
    }
    backward.tape = application_at(on_tape, take_rows(z, backward.kept), taken);
  };

  std::vector<int32_t> finite;
  for (size_t k = 0; k < report->forward.samples.size(); ++k)
    if (report->forward.samples[k].reason != Reason::non_finite)
      finite.push_back(static_cast<int32_t>(k));
  apply_to(finite);
  // The solve has seen f(z); what the steps make of it nobody has.
  if (unrolled) {
    const std::vector<int32_t> still = finite_samples(backward.tape.output, finite);
    if (still.size() < finite.size()) apply_to(still);
  }
  if (options.output == Output::image) {
    if (backward.kept) {
      put_rows(backward.tape.output, backward.kept, z);
    } else {
      z = backward.tape.output.detach();
    }
  }
  const std::vector<Tensor>& captured = backward.tape.captured;
  inputs.insert(inputs.end(), captured.begin(), captured.end());
  return record_many("fixed_point", std::move(inputs), {z}, std::move(backward))[0];
}

}  // namespace stillpoint::implicit
