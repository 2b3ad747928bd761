// rms_norm by its formula. In double it is the truth that the tests hold the backends to.
#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/rms_norm/rms_norm.h"

namespace stillpoint::kernels::reference {

template <class T>
void rms_norm(const RmsNormArgs<T>& args) {
  for (int64_t row = 0; row < args.rows; ++row) {
    const int64_t first = row * args.channels;
    const auto s = [&](int64_t k) {
      return args.x[first + k] + (args.residual ? args.residual[first + k] : T{0});
    };
    T squares = 0;
    for (int64_t k = 0; k < args.channels; ++k) squares += s(k) * s(k);
    const T mean = squares / static_cast<T>(args.channels);
    const T r = 1 / std::sqrt(mean + static_cast<T>(args.epsilon));
    for (int64_t k = 0; k < args.channels; ++k)
      args.out[first + k] = (args.weight ? args.weight[k] : T{1}) * s(k) * r;
    args.r[row] = r;
  }
}

template <class T>
void rms_norm_backward(const RmsNormBackwardArgs<T>& args) {
  const int64_t channels = args.channels;
  if (args.dw_groups)
    for (int64_t k = 0; k < rms_norm_groups(args.rows) * channels; ++k) args.dw_groups[k] = 0;
  for (int64_t row = 0; row < args.rows; ++row) {
    const T* g = args.g + row * channels;
    const T r = args.r[row];
    const auto s = [&](int64_t k) {
      const int64_t at = row * channels + k;
      return args.x[at] + (args.residual ? args.residual[at] : T{0});
    };
    const auto gw = [&](int64_t k) { return g[k] * (args.weight ? args.weight[k] : T{1}); };
    T dot = 0;
    for (int64_t k = 0; k < channels; ++k) dot += gw(k) * s(k);
    const T pull = r * r * dot / static_cast<T>(channels);
    for (int64_t k = 0; k < channels; ++k) {
      args.dx[row * channels + k] = r * (gw(k) - s(k) * pull);
      if (args.dw_groups) args.dw_groups[row / kRmsNormRows * channels + k] += g[k] * s(k) * r;
    }
  }
}

}  // namespace stillpoint::kernels::reference
