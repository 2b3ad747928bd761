#include "models/sudoku/guard.h"

#include <algorithm>
#include <cmath>

#include "engine/error.h"

namespace stillpoint::sudoku {
namespace {

constexpr double kGrow = 1.25, kFall = 0.8;
// Solves that stop at their cap near the tolerance are no alarm.
constexpr double kResiduals = 30;

}  // namespace

Guard::Guard(const GuardOptions& o) : options_(o), state_{.weight = o.least} {
  check<OptionError>(o.limit > 0 && std::isfinite(o.limit),
                     "guard: a radius of at most {}; wanted more than 0", o.limit);
  check<OptionError>(o.tolerance > 0, "guard: a tolerance of {}; wanted more than 0", o.tolerance);
  check<OptionError>(o.least > 0 && o.most >= o.least && std::isfinite(o.most),
                     "guard: weights from {} to {}; wanted more than 0, ascending", o.least,
                     o.most);
}

double Guard::observe(double radius, double residual) {
  double radius_to_come = radius, residual_to_come = residual;
  if (state_.seen) {
    radius_to_come += radius - state_.radius;
    if (state_.residual > 0) residual_to_come *= residual / state_.residual;
  }
  const bool finite = std::isfinite(radius) && std::isfinite(residual) &&
                      std::isfinite(state_.radius) && std::isfinite(state_.residual);
  const bool calm = finite && radius_to_come <= options_.limit &&
                    residual_to_come <= kResiduals * options_.tolerance;
  state_ = {
      .weight = std::clamp(state_.weight * (calm ? kFall : kGrow), options_.least, options_.most),
      .radius = radius,
      .residual = residual,
      .seen = true};
  return state_.weight;
}

void Guard::restore(const State& state) {
  check<OptionError>(std::isfinite(state.weight), "guard: a weight of {}; wanted a finite number",
                     state.weight);
  state_ = state;
  state_.weight = std::clamp(state.weight, options_.least, options_.most);
}

}  // namespace stillpoint::sudoku
