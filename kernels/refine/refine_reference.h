// refine by its formula, put together from the references of its parts, one sample after the other.
// In double it is the truth that the tests hold the backends to.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/gemm/gemm_reference.h"
#include "kernels/gru_cell/gru_cell_reference.h"
#include "kernels/message_sum/message_sum_reference.h"
#include "kernels/refine/refine.h"

namespace stillpoint::kernels::reference {

// What one step of one sample computes before its gates, in the workspace.
template <class T>
struct RefineStep {
  T *a, *c, *s;          // [nodes, H]
  T *x_gates, *h_gates;  // [nodes, 3H]

  RefineStep(T* workspace, int64_t state)
      : a(workspace),
        c(a + state),
        s(c + state),
        x_gates(s + state),
        h_gates(x_gates + 3 * state) {}
};

// out [rows, columns] = op(a) op(b) + bias, with `depth` terms.
template <class T>
void product(const T* a, const T* b, const T* bias, T* out, int64_t rows, int64_t columns,
             int64_t depth, bool transpose_b) {
  gemm(GemmArgs<T>{.a = a,
                   .b = b,
                   .bias = bias,
                   .out = out,
                   .workspace = nullptr,
                   .m = rows,
                   .n = columns,
                   .k = depth,
                   .transpose_a = false,
                   .transpose_b = transpose_b});
}

template <class T>
void add_to(T* sum, const T* x, int64_t n) {
  for (int64_t k = 0; k < n; ++k) sum[k] += x[k];
}

template <class T>
void refine_step(const RefineWeights<T>& w, const T* h, const T* x, const CsrView& pattern,
                 int64_t channels, const RefineStep<T>& step) {
  const int64_t n = pattern.rows;
  product(h, w.receiver, w.receiver_bias, step.a, n, channels, channels, true);
  product<T>(h, w.sender, nullptr, step.c, n, channels, channels, true);
  product(h, w.state, w.state_bias, step.h_gates, n, 3 * channels, channels, true);
  message_sum(MessageSumArgs<T>{step.a, step.c, step.s, pattern, 1, channels});
  product<T>(step.s, w.message, nullptr, step.x_gates, n, 3 * channels, channels, true);
  add_to(step.x_gates, x, 3 * n * channels);
}

template <class T>
void refine(const RefineArgs<T>& args) {
  const int64_t steps = args.size.steps, batch = args.size.batch, nodes = args.size.nodes;
  const int64_t channels = args.size.channels;
  const int64_t state = nodes * channels;
  const RefineStep<T> step(args.workspace, state);
  T* const last = args.workspace + 9 * state;
  for (int64_t b = 0; b < batch; ++b) {
    const T* h = args.h + b * state;
    const T* x = args.x + 3 * b * state;
    for (int64_t t = 0; t < steps; ++t) {
      refine_step(args.weights, h, x, args.pattern, channels, step);
      T* out = args.states == RefineStates::all ? args.out + (t * batch + b) * state : last;
      // `out` may be `h`: the elements of gru_cell are independent.
      gru_cell(GruCellArgs<T>{step.x_gates, step.h_gates, h, out, nodes, channels});
      h = out;
    }
    if (args.states == RefineStates::last) std::copy_n(h, state, args.out + b * state);
  }
}

// sum [rows, columns] += a^T b with a [depth, rows] and b [depth, columns].
template <class T>
void add_outer(T* sum, const T* a, const T* b, int64_t rows, int64_t columns, int64_t depth) {
  for (int64_t l = 0; l < depth; ++l)
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t j = 0; j < columns; ++j)
        sum[i * columns + j] += a[l * rows + i] * b[l * columns + j];
}
template <class T>
void add_columns(T* sum, const T* a, int64_t rows, int64_t columns) {
  for (int64_t i = 0; i < rows; ++i) add_to(sum, a + i * columns, columns);
}

template <class T>
void refine_backward(const RefineBackwardArgs<T>& args) {
  const int64_t steps = args.size.steps, batch = args.size.batch, nodes = args.size.nodes;
  const int64_t channels = args.size.channels;
  const int64_t state = nodes * channels, square = channels * channels;
  const RefineWeights<T>& w = args.weights;
  const RefineStep<T> step(args.workspace, state);
  T* const dx_gates = args.workspace + 9 * state;
  T* const dh_gates = dx_gates + 3 * state;
  T* const ds = dh_gates + 3 * state;
  T* const da = ds + state;
  T* const dc = da + state;
  T* const part = dc + state;
  T* const dw = args.dweights;
  if (dw != nullptr) std::fill_n(dw, refine_parameters(channels), T{0});
  for (int64_t b = 0; b < batch; ++b) {
    const T* x = args.x + 3 * b * state;
    T* dh = args.dh + b * state;
    std::fill_n(dh, state, T{0});
    if (args.dx != nullptr) std::fill_n(args.dx + 3 * b * state, 3 * state, T{0});
    for (int64_t t = steps - 1; t >= 0; --t) {
      const T* h = t == 0 ? args.h + b * state : args.out + ((t - 1) * batch + b) * state;
      refine_step(w, h, x, args.pattern, channels, step);
      add_to(dh, args.g + (t * batch + b) * state, state);
      std::copy_n(dh, state, part);
      gru_cell_backward(GruCellBackwardArgs<T>{step.x_gates, step.h_gates, h, part, dx_gates,
                                               dh_gates, dh, nodes, channels});
      if (args.dx != nullptr) add_to(args.dx + 3 * b * state, dx_gates, 3 * state);
      product<T>(dx_gates, w.message, nullptr, ds, nodes, channels, 3 * channels, false);
      message_sum_backward(MessageSumBackwardArgs<T>{step.a, step.c, ds, da, dc, args.pattern,
                                                     args.transposed, 1, channels});
      const auto through = [&](const T* d, const T* weight, int64_t depth) {
        product<T>(d, weight, nullptr, part, nodes, channels, depth, false);
        add_to(dh, part, state);
      };
      through(da, w.receiver, channels);
      through(dc, w.sender, channels);
      through(dh_gates, w.state, 3 * channels);
      if (dw == nullptr) continue;
      add_outer(dw, da, h, channels, channels, nodes);
      add_outer(dw + square, dc, h, channels, channels, nodes);
      add_outer(dw + 2 * square, dh_gates, h, 3 * channels, channels, nodes);
      add_outer(dw + 5 * square, dx_gates, step.s, 3 * channels, channels, nodes);
      add_columns(dw + 8 * square, da, nodes, channels);
      add_columns(dw + 8 * square + channels, dh_gates, nodes, 3 * channels);
    }
  }
}

}  // namespace stillpoint::kernels::reference
