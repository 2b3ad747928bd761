// cross_entropy and softmax by their formulas. In double they are the truth that the tests hold the
// backends to.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

#include "kernels/cross_entropy/cross_entropy.h"

namespace stillpoint::kernels::reference {

// The largest of a row (NaN if one is), and the sum of exponentials relative to it.
template <class T>
struct RowExponentials {
  T max = -std::numeric_limits<T>::infinity();
  T sum = 0;

  RowExponentials(const T* x, int64_t channels) {
    for (int64_t k = 0; k < channels; ++k)
      if (x[k] > max || std::isnan(x[k])) max = x[k];
    for (int64_t k = 0; k < channels; ++k) sum += std::exp(x[k] - max);
  }
};

template <class T>
void softmax(const SoftmaxArgs<T>& args) {
  for (int64_t r = 0; r < args.rows; ++r) {
    const T* x = args.x + r * args.channels;
    const RowExponentials<T> row(x, args.channels);
    for (int64_t k = 0; k < args.channels; ++k)
      args.out[r * args.channels + k] = std::exp(x[k] - row.max) / row.sum;
  }
}

template <class T>
void softmax_backward(const SoftmaxBackwardArgs<T>& args) {
  for (int64_t r = 0; r < args.rows; ++r) {
    const T* y = args.y + r * args.channels;
    const T* g = args.g + r * args.channels;
    T dot = 0;
    for (int64_t k = 0; k < args.channels; ++k) dot += g[k] * y[k];
    for (int64_t k = 0; k < args.channels; ++k)
      args.dx[r * args.channels + k] = y[k] * (g[k] - dot);
  }
}

template <class T>
void cross_entropy(const CrossEntropyArgs<T>& args) {
  T sum = 0, count = 0;
  for (int64_t r = 0; r < args.rows; ++r) {
    const T* x = args.x + r * args.channels;
    const RowExponentials<T> row(x, args.channels);
    const int64_t target = args.targets[r];
    args.log_sum[r] =
        target < args.channels ? row.max + std::log(row.sum) : std::numeric_limits<T>::quiet_NaN();
    if (target < 0) continue;
    sum += target < args.channels ? args.log_sum[r] - x[target] : args.log_sum[r];
    count += 1;
  }
  *args.scale = count > 0 ? 1 / count : T{0};
  *args.loss = sum * *args.scale;
}

template <class T>
void cross_entropy_backward(const CrossEntropyBackwardArgs<T>& args) {
  for (int64_t r = 0; r < args.rows; ++r)
    for (int64_t k = 0; k < args.channels; ++k) {
      const int64_t at = r * args.channels + k;
      const T p = std::exp(args.x[at] - args.log_sum[r]);
      args.dx[at] =
          args.targets[r] < 0 ? T{0} : *args.g * *args.scale * (p - T(k == args.targets[r]));
    }
}

}  // namespace stillpoint::kernels::reference
