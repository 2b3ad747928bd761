// gru_cell by its formula. In double it is the truth that the tests hold the backends to.
#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/gru_cell/gru_cell.h"

namespace stillpoint::kernels::reference {

template <class T>
struct GruGates {
  T r, z, n;
};

// The gates of channel k, where `gates` is the row's first pre-activation in both inputs.
template <class T>
GruGates<T> gru_gates(const T* x, const T* h, int64_t channels) {
  const auto sigmoid = [](T v) { return 1 / (1 + std::exp(-v)); };
  const T r = sigmoid(x[0] + h[0]);
  return {r, sigmoid(x[channels] + h[channels]), std::tanh(x[2 * channels] + r * h[2 * channels])};
}

template <class T>
void gru_cell(const GruCellArgs<T>& args) {
  for (int64_t row = 0; row < args.rows; ++row)
    for (int64_t k = 0; k < args.channels; ++k) {
      const int64_t at = row * args.channels + k, gate = 3 * row * args.channels + k;
      const auto [r, z, n] = gru_gates(args.x_gates + gate, args.h_gates + gate, args.channels);
      args.out[at] = (1 - z) * n + z * args.h[at];
    }
}

template <class T>
void gru_cell_backward(const GruCellBackwardArgs<T>& args) {
  const int64_t channels = args.channels;
  for (int64_t row = 0; row < args.rows; ++row)
    for (int64_t k = 0; k < channels; ++k) {
      const int64_t at = row * channels + k, gate = 3 * row * channels + k;
      const auto [r, z, n] = gru_gates(args.x_gates + gate, args.h_gates + gate, channels);
      const T g = args.g[at];
      const T an = g * (1 - z) * (1 - n * n);
      const T ar = an * args.h_gates[gate + 2 * channels] * r * (1 - r);
      const T az = g * (args.h[at] - n) * z * (1 - z);
      args.dx_gates[gate] = args.dh_gates[gate] = ar;
      args.dx_gates[gate + channels] = args.dh_gates[gate + channels] = az;
      args.dx_gates[gate + 2 * channels] = an;
      args.dh_gates[gate + 2 * channels] = an * r;
      args.dh[at] = g * z;
    }
}

}  // namespace stillpoint::kernels::reference
