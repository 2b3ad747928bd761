// layer_norm by its formula. In double it is the truth that the tests hold the backends to.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "kernels/layer_norm/layer_norm.h"

namespace stillpoint::kernels::reference {

template <class T>
void layer_norm(const LayerNormArgs<T>& args) {
  const T n = static_cast<T>(args.channels);
  for (int64_t row = 0; row < args.rows; ++row) {
    const T* x = args.x + row * args.channels;
    T sum = 0, squares = 0;
    for (int64_t k = 0; k < args.channels; ++k) sum += x[k];
    const T mean = sum / n;
    for (int64_t k = 0; k < args.channels; ++k) squares += (x[k] - mean) * (x[k] - mean);
    const T r = 1 / std::sqrt(squares / n + static_cast<T>(args.epsilon));
    for (int64_t k = 0; k < args.channels; ++k)
      args.out[row * args.channels + k] =
          (args.weight ? args.weight[k] : T{1}) * (x[k] - mean) * r +
          (args.bias ? args.bias[k] : T{0});
    args.mean[row] = mean;
    args.r[row] = r;
  }
}

template <class T>
void layer_norm_backward(const LayerNormBackwardArgs<T>& args) {
  const int64_t channels = args.channels;
  const T n = static_cast<T>(channels);
  if (args.dw_groups) {
    std::fill_n(args.dw_groups, layer_norm_groups(args.rows) * channels, T{0});
    std::fill_n(args.db_groups, layer_norm_groups(args.rows) * channels, T{0});
  }
  for (int64_t row = 0; row < args.rows; ++row) {
    const T* x = args.x + row * channels;
    const T* g = args.g + row * channels;
    const auto y = [&](int64_t k) { return (x[k] - args.mean[row]) * args.r[row]; };
    const auto gw = [&](int64_t k) { return g[k] * (args.weight ? args.weight[k] : T{1}); };
    T sum = 0, dot = 0;
    for (int64_t k = 0; k < channels; ++k) sum += gw(k), dot += gw(k) * y(k);
    for (int64_t k = 0; k < channels; ++k) {
      args.dx[row * channels + k] = args.r[row] * (gw(k) - sum / n - y(k) * dot / n);
      if (!args.dw_groups) continue;
      args.dw_groups[row / kLayerNormRows * channels + k] += g[k] * y(k);
      args.db_groups[row / kLayerNormRows * channels + k] += g[k];
    }
  }
}

}  // namespace stillpoint::kernels::reference
