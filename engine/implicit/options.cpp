#include "engine/implicit/options.h"

#include "engine/error.h"
#include "kernels/anderson/anderson.h"

namespace stillpoint::implicit {
namespace {

// A NaN fails every comparison, so that it is refused as well.
bool is_fraction(double x) { return x > 0 && x <= 1; }

struct CheckSolver {
  const char* where;

  void operator()(const Damped& o) const {
    check<OptionError>(is_fraction(o.step),
                       "fixed_point: {}: damped step is {}, wanted 0 < step <= 1", where, o.step);
  }
  void operator()(const Anderson& o) const {
    check<OptionError>(o.memory >= 1 && o.memory <= kernels::kAndersonMemory,
                       "fixed_point: {}: Anderson memory is {}, wanted 1 to {}", where, o.memory,
                       kernels::kAndersonMemory);
    check<OptionError>(o.mixing > 0 && o.mixing <= 2,
                       "fixed_point: {}: Anderson mixing is {}, wanted 0 < mixing <= 2", where,
                       o.mixing);
    check<OptionError>(o.ridge >= 0 && o.ridge < 1,
                       "fixed_point: {}: Anderson ridge is {}, wanted 0 <= ridge < 1", where,
                       o.ridge);
    check<OptionError>(o.begin > 0, "fixed_point: {}: Anderson begin is {}, wanted above 0", where,
                       o.begin);
  }
  void operator()(const Broyden& o) const {
    check<OptionError>(o.memory >= 2, "fixed_point: {}: Broyden memory is {}, wanted 2 or more",
                       where, o.memory);
  }
  void operator()(const Gmres& o) const {
    check<OptionError>(o.restart >= 1, "fixed_point: {}: GMRES restart is {}, wanted 1 or more",
                       where, o.restart);
  }
};

void check_stopping(const Stopping& o, const char* where) {
  check<OptionError>(o.tolerance >= 0 && o.tolerance < 1e300,
                     "fixed_point: {}: tolerance is {}, wanted 0 or more and finite", where,
                     o.tolerance);
  check<OptionError>(o.residual == Residual::absolute || o.tolerance < 1,
                     "fixed_point: {}: a relative tolerance of {} is met by anything, wanted less "
                     "than 1",
                     where, o.tolerance);
  check<OptionError>(o.max_iterations >= 1,
                     "fixed_point: {}: max_iterations is {}, wanted 1 or more", where,
                     o.max_iterations);
  check<OptionError>(o.look_every >= 1 && o.look_every <= o.max_iterations,
                     "fixed_point: {}: look_every is {}, wanted 1 to max_iterations, which is {}",
                     where, o.look_every, o.max_iterations);
  check<OptionError>(o.at_a_time >= 0, "fixed_point: {}: at_a_time is {}, wanted 0 or more", where,
                     o.at_a_time);
  check<OptionError>(o.loop == Loop::host || o.look_every == 1,
                     "fixed_point: {}: look_every is {} with Loop::graph, in which nobody looks; "
                     "wanted 1",
                     where, o.look_every);
}

struct CheckAdjoint {
  void operator()(const Exact& o) const {
    std::visit(CheckSolver{"adjoint"}, o.solver);
    check_stopping(o.stopping, "adjoint");
    check<OptionError>(o.stopping.loop == Loop::host || !std::holds_alternative<Gmres>(o.solver),
                       "fixed_point: adjoint: GMRES with Loop::graph, wanted Loop::host: the host "
                       "decides its steps");
  }
  void operator()(const PhantomGradient& o) const {
    check<OptionError>(o.steps >= 1, "fixed_point: phantom gradient of {} steps, wanted 1 or more",
                       o.steps);
    check<OptionError>(is_fraction(o.damping),
                       "fixed_point: phantom damping is {}, wanted 0 < damping <= 1", o.damping);
  }
  void operator()(const UnrolledPhantomGradient& o) const {
    check<OptionError>(o.steps >= 1, "fixed_point: {} steps unrolled, wanted 1 or more", o.steps);
    check<OptionError>(is_fraction(o.damping),
                       "fixed_point: damping of unrolled steps is {}, wanted 0 < damping <= 1",
                       o.damping);
  }
  void operator()(const OneStep&) const {}
  void operator()(const Neumann& o) const {
    check<OptionError>(o.terms >= 1, "fixed_point: Neumann series of {} terms, wanted 1 or more",
                       o.terms);
  }
};

}  // namespace

void check_options(const FixedPointOptions& options) {
  std::visit(CheckSolver{"forward"}, options.solver);
  check_stopping(options.forward, "forward");
  std::visit(CheckAdjoint{}, options.adjoint);
  check<OptionError>(options.output == Output::image ||
                         !std::holds_alternative<UnrolledPhantomGradient>(options.adjoint),
                     "fixed_point: Output::iterate with unrolled steps, wanted Output::image: what "
                     "they compute is the result");
}

}  // namespace stillpoint::implicit
