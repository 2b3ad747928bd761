// What the backends of set_score share: the points of the quadrature, and the way from a row's
// log_prob to weights and back.
#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/common/portable.h"

namespace stillpoint::kernels {

// Points first, first + step, ... What lies to the left holds e^first of the integral where all
// picks are certain and less elsewhere; to the right, e^-30 of that of 64 picks of no weight, which
// lies farthest out.
struct SetGrid {
  double first, step;
  int points;
};
constexpr SetGrid kSetGrid{-22.875, 0.125, 224};        // for float; 14 vectors of 16, 7 of a warp
constexpr SetGrid kSetGridFine{-38.4375, 0.0625, 704};  // for double

// log(1 - exp x) of x <= 0.
template <class T>
STILLPOINT_HD inline T log_one_minus(T x) {
  return x > static_cast<T>(-0.6931471805599453) ? std::log(-std::expm1(x))
                                                 : std::log1p(-std::exp(x));
}

template <class T>
STILLPOINT_HD inline void set_log_weights(const T* log_prob, int64_t count, T* log_a) {
  T rest = 0;  // log of the keys never picked, less log of what remains at pick t
  for (int64_t t = count - 1; t >= 0; --t) {
    rest += log_one_minus(log_prob[t]);
    log_a[t] = log_prob[t] - rest;
  }
}

template <class T>
STILLPOINT_HD inline void set_row_gradient(const T* log_prob, int64_t count, const T* h, T g,
                                           T* d) {
  T sum = 0;
  for (int64_t t = 0; t < count; ++t) {
    sum += h[t];
    const T odds = std::exp(log_prob[t] - log_one_minus(log_prob[t]));
    // Odds that overflow would make NaN of a sum that has underflown.
    d[t] = log_prob[t] > static_cast<T>(-1e-9) ? T{0} : g * (h[t] + odds * sum);
  }
}

}  // namespace stillpoint::kernels
