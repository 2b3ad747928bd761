// How a fixed point is found and differentiated. Every choice is a type or an enum class;
// check_options refuses, with values, what contradicts itself.
#pragma once

#include <cstdint>
#include <limits>
#include <variant>

namespace stillpoint::implicit {

// ---- solvers of z = f(z) -----------------------------------------------------------------------

// z + step (f(z) - z): plain iteration with step 1.
struct Damped {
  double step = 1.0;
};

// Combines the last `memory` differences so that the linear model's residual is least
// (kernels/anderson/anderson.h). The ridge is relative to the diagonal of the Gram matrix of
// differences scaled to length 1; a larger one trusts the history less. While |f(z) - z| / |f(z)|
// is above `begin` steps are damped and nothing is held: where the way to the fixed point is no
// linear one, history holds the search up. Not for linear problems such as the adjoint.
struct Anderson {
  int memory = 5;
  double mixing = 1.0;
  double ridge = 1e-6;
  double begin = std::numeric_limits<double>::infinity();
};

// Limited-memory Broyden (kernels/broyden_update/broyden_update.h); starts again when `memory`
// steps are held.
struct Broyden {
  int memory = 16;
};

using Solver = std::variant<Damped, Anderson, Broyden>;

// ---- when to stop ------------------------------------------------------------------------------

// What is compared with the tolerance, per sample, Euclidean norms: |f(z) - z| / |f(z)|, or |f(z) -
// z|. A fixed point at 0 needs the absolute one.
enum class Residual : uint8_t { relative, absolute };

// Who runs the iterations. The host: it looks at which samples are done, and their rows leave f's
// inputs. Or a CUDA graph: a loop on the device without the host, in which f always gets all rows
// and samples that are done are left alone by mask; see docs/equilibrium.md for what f must not do.
enum class Loop : uint8_t { host, graph };

struct Stopping {
  double tolerance = 1e-4;
  int max_iterations = 64;  // evaluations of f per sample
  Residual residual = Residual::relative;
  // Iterations between looks at which samples are done and leave. A sample that is done stops
  // there and then whatever this is; but until the next look its rows are still evaluated. On CUDA
  // a look waits for the device.
  int look_every = 1;
  // On the CPU, samples that go through the loop together, the next ones when they are done; 0:
  // all. Of few the solver's history stays in cache from one step to the next, and f is called more
  // often. Where f's rows do not depend on each other's number (a dense product's last bits may),
  // the results are the same bits whatever this is.
  int64_t at_a_time = 0;
  Loop loop = Loop::host;
};

// ---- gradients ---------------------------------------------------------------------------------

// Restarted GMRES for u = J^T u + g: `restart` basis vectors are held.
struct Gmres {
  int restart = 20;
};
using AdjointSolver = std::variant<Damped, Anderson, Broyden, Gmres>;

// What becomes of samples whose adjoint solve did not converge; the report counts them in any case.
enum class OnFailure : uint8_t {
  keep_best,  // the best iterate of u
  one_step,   // u = g
  phantom,    // as PhantomGradient{} has it
  error       // GradientError
};

// The gradient by the implicit function theorem: u = J^T u + g is solved to its own tolerance.
struct Exact {
  AdjointSolver solver = Anderson{};
  Stopping stopping = {.tolerance = 1e-5, .max_iterations = 64};
  OnFailure on_failure = OnFailure::keep_best;
};

// Approximations that solve nothing. Geng et al., "On training implicit models", NeurIPS 2021:
// u = damping sum_{i < steps} (damping J^T + (1 - damping) I)^i g.
struct PhantomGradient {
  int steps = 5;
  double damping = 0.5;
};
// u = g: Fung et al., "JFB: Jacobian-free backpropagation for implicit networks", AAAI 2022.
struct OneStep {};
// u = sum_{i < terms} (J^T)^i g.
struct Neumann {
  int terms = 5;
};

// Where gradients are recorded the solve's result is refined further, z <- damping f(z) + (1 -
// damping) z for `steps` times, and these steps alone are differentiated, one after the other: the
// exact gradient of what they compute, be the point that they begin from fixed or not, at the
// memory of `steps` applications. Geng et al. 2021, there the unrolling-based phantom gradient;
// with damping 1, which is what the network computes elsewhere, backpropagation truncated to the
// last steps. Samples that the steps drive to infinity are left out, which waits for the device.
struct UnrolledPhantomGradient {
  int steps = 5;
  double damping = 1.0;
};

using Adjoint = std::variant<Exact, PhantomGradient, OneStep, Neumann, UnrolledPhantomGradient>;

// What is returned of a solve where gradients are recorded. At a fixed point they are the same, to
// the tolerance; short of one it decides whether a network learns or collapses (docs/collapse.md).
enum class Output : uint8_t {
  image,   // f(z*): with OneStep the exact gradient, as a function of that application's parameters
  iterate  // z* itself, which no parameter of that application can move
};
constexpr const char* name(Output output) { return output == Output::image ? "image" : "iterate"; }

struct FixedPointOptions {
  Solver solver = Anderson{};
  Stopping forward = {};
  Adjoint adjoint = Exact{};
  Output output = Output::image;
};

// Throws OptionError, naming the option, its value and what was wanted.
void check_options(const FixedPointOptions& options);

}  // namespace stillpoint::implicit
