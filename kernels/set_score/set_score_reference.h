// set_score by its formulas. In double it is the truth that the tests hold the backends to, and
// takes twice as many points over a wider range.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "kernels/set_score/set_score.h"
#include "kernels/set_score/set_score_row.h"

namespace stillpoint::kernels::reference {

// log(1 - exp(-e^y)) and its derivative.
template <class T>
T set_term(T y) {
  const T e = std::exp(y);
  if (e < T{0.5}) return y + (e > 0 ? std::log(-std::expm1(-e) / e) : T{0});
  return std::log1p(-std::exp(-e));
}
template <class T>
T set_slope(T y) {
  const T e = std::exp(std::min(y, T{6}));  // 1e-172 there
  return e > 0 ? e / std::expm1(e) : T{1};
}

template <class T>
T set_log_integrand(const T* log_a, int64_t count, T x) {
  T log_f = x - std::exp(x);
  for (int64_t t = 0; t < count; ++t) log_f += set_term(log_a[t] + x);
  return log_f;
}

template <class T>
T set_point(const SetGrid& grid, int n) {
  return static_cast<T>(grid.first + n * grid.step);
}

template <class T>
T set_log_integral(const T* log_a, int64_t count, const SetGrid& grid) {
  T max = -std::numeric_limits<T>::infinity(), sum = 0;
  for (int n = 0; n < grid.points; ++n)
    max = std::max(max, set_log_integrand(log_a, count, set_point<T>(grid, n)));
  for (int n = 0; n < grid.points; ++n)
    sum += std::exp(set_log_integrand(log_a, count, set_point<T>(grid, n)) - max);
  return max + std::log(sum * static_cast<T>(grid.step));
}

template <class T>
void set_score(const SetScoreArgs<T>& args) {
  T log_a[kSetCount];
  for (int64_t row = 0; row < args.rows; ++row) {
    set_log_weights(args.log_prob + row * args.count, args.count, log_a);
    args.out[row] = set_log_integral(log_a, args.count, kSetGridFine);
  }
}

template <class T>
void set_score_backward(const SetScoreBackwardArgs<T>& args) {
  const SetGrid& grid = kSetGridFine;
  T log_a[kSetCount], h[kSetCount];
  for (int64_t row = 0; row < args.rows; ++row) {
    const T* log_prob = args.log_prob + row * args.count;
    set_log_weights(log_prob, args.count, log_a);
    const T whole = set_log_integral(log_a, args.count, grid) - std::log(static_cast<T>(grid.step));
    std::fill_n(h, args.count, T{0});
    for (int n = 0; n < grid.points; ++n) {
      const T x = set_point<T>(grid, n);
      const T share = std::exp(set_log_integrand(log_a, args.count, x) - whole);
      for (int64_t t = 0; t < args.count; ++t) h[t] += share * set_slope(log_a[t] + x);
    }
    set_row_gradient(log_prob, args.count, h, args.g[row], args.d + row * args.count);
  }
}

}  // namespace stillpoint::kernels::reference
