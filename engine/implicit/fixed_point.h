// Fixed points of a function over a batch, and their gradients by the implicit function theorem.
//
//   auto [z, report] = implicit::fixed_point(
//       [&](const Tensor& z, const Tensor& x) { return ops::tanh(ops::add(ops::linear(z, w), x));
//       }, z0, x, {.solver = implicit::Anderson{}, .forward = {.tolerance = 1e-5}});
//   backward(loss(z));   // gradients of x and w; memory does not grow with the iterations
//
// The first dimension counts samples, and each converges on its own. Per-sample tensors go through
// `inputs`: when a sample is done its rows leave z and the inputs, and f sees the others only. What
// else f captures (parameters, a graph) is shared by all samples. f must be a pure function that
// treats every row alike and alone; nothing may depend on the other samples or on how many there
// are.
//
// Everything that f touched and that needs a gradient gets it: inputs and captured tensors alike.
// z0 gets none: where the search began is taken to make no difference. docs/equilibrium.md
// derives the gradient and says what each option costs.
#pragma once

#include <concepts>
#include <functional>
#include <memory>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "engine/autograd.h"
#include "engine/implicit/options.h"
#include "engine/implicit/report.h"

namespace stillpoint::implicit {

using Map = std::function<Tensor(const Tensor& z, std::span<const Tensor> inputs)>;

struct FixedPoint {
  // Like z0: of every sample the iterate that converged, or else the one with the least |f(z) - z|.
  // In grad mode, of the samples that are finite, f of that (Output::image), or what
  // UnrolledPhantomGradient makes of it.
  Tensor z;
  // Shared, because the backward adds what its solve did.
  std::shared_ptr<const Report> report;
};

// z0 [batch, ...] is where the solve starts (give the last solution for a warm start); inputs have
// as many rows. Throws OptionError on contradictory options, ShapeError or TypeError on inputs that
// do not fit. A solve that fails throws nothing: read the report. In float64 on the CPU everything
// runs in float64.
FixedPoint fixed_point(const Map& f, const Tensor& z0, std::vector<Tensor> inputs,
                       const FixedPointOptions& options = {});

// f(z, x) with one input, and f(z) without any.
template <class F>
requires std::is_invocable_r_v<Tensor, const F&, const Tensor&, const Tensor&> FixedPoint
fixed_point(F f, const Tensor& z0, const Tensor& x, const FixedPointOptions& options = {}) {
  return fixed_point(
      Map([f = std::move(f)](const Tensor& z, std::span<const Tensor> in) { return f(z, in[0]); }),
      z0, std::vector<Tensor>{x}, options);
}
template <class F>
requires std::is_invocable_r_v<Tensor, const F&, const Tensor&> FixedPoint
fixed_point(F f, const Tensor& z0, const FixedPointOptions& options = {}) {
  return fixed_point(
      Map([f = std::move(f)](const Tensor& z, std::span<const Tensor>) { return f(z); }), z0,
      std::vector<Tensor>{}, options);
}

}  // namespace stillpoint::implicit
