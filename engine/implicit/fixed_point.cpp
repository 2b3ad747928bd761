#include "engine/implicit/fixed_point.h"

#include "engine/implicit/adjoint.h"
#include "engine/implicit/solve.h"

namespace stillpoint::implicit {
namespace {

void check_inputs(const Tensor& z0, const std::vector<Tensor>& inputs) {
  check_floating(z0, "fixed_point", "z0");
  check<ShapeError>(z0.rank() >= 1, "fixed_point: z0 has shape [], wanted [batch, ...]");
  for (size_t k = 0; k < inputs.size(); ++k) {
    check<TypeError>(inputs[k].device() == z0.device(), "fixed_point: input {} is on {}, z0 on {}",
                     k, name(inputs[k].device()), name(z0.device()));
    check<ShapeError>(inputs[k].rank() >= 1 && inputs[k].dim(0) == z0.dim(0),
                      "fixed_point: input {} has shape {}, wanted {} rows as z0 has; what all "
                      "samples share is captured by f instead",
                      k, inputs[k].shape(), z0.dim(0));
  }
}

Solved solve_forward(const Map& f, const Tensor& z0, const std::vector<Tensor>& inputs,
                     const FixedPointOptions& options) {
  std::vector<Tensor> active_inputs = inputs;
  const Problem problem{.apply = [&](const Tensor& z) { return f(z, active_inputs); },
                        .select =
                            [&](const Active& active) {
                              for (size_t k = 0; k < inputs.size(); ++k)
                                active_inputs[k] = take_rows(inputs[k], active.index);
                            }};
  return solve(problem, z0, options.solver, options.forward);
}

}  // namespace

FixedPoint fixed_point(const Map& f, const Tensor& z0, std::vector<Tensor> inputs,
                       const FixedPointOptions& options) {
  check_options(options);
  check_inputs(z0, inputs);
  Solved solved = solve_forward(f, z0, inputs, options);
  auto report = std::make_shared<Report>();
  report->forward = std::move(solved.report);
  if (!grad_enabled()) return {solved.z, report};
  return {record_adjoint(f, std::move(solved.z), std::move(inputs), options, report), report};
}

}  // namespace stillpoint::implicit
