// refine_factor by its formula. In double it is the truth that the tests hold the backends to.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <utility>

#include "kernels/refine_factor/refine_factor.h"

namespace stillpoint::kernels::reference {
namespace refine_factor_detail {

// As an operand of a product: in bfloat16 to nearest, ties to even, numbers below the smallest
// normal one to 0 (those too large for float stay finite).
template <class T>
T operand(T x, Precision precision) {
  if (precision == Precision::f32 || !std::isfinite(x)) return x;
  if (std::abs(x) < std::numeric_limits<float>::min()) return 0;
  constexpr int kDropped = 52 - 7;  // bits of a double's fraction
  auto bits = std::bit_cast<uint64_t>(static_cast<double>(x));
  bits += (uint64_t{1} << (kDropped - 1)) - 1 + (bits >> kDropped & 1);
  return static_cast<T>(std::bit_cast<double>(bits >> kDropped << kDropped));
}

// Matrices are row-major; rows of w start ldw apart.
// y [rows, out] += x [rows, in] w^T, w [out, in].
template <class T>
void add_product(T* y, int64_t rows, int64_t out, const T* x, int64_t in, const T* w, int64_t ldw,
                 Precision precision) {
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t o = 0; o < out; ++o)
      for (int64_t i = 0; i < in; ++i)
        y[r * out + o] += operand(x[r * in + i], precision) * operand(w[o * ldw + i], precision);
}
// dx [rows, in] += dy [rows, out] w.
template <class T>
void add_data_gradient(T* dx, int64_t rows, int64_t in, const T* dy, int64_t out, const T* w,
                       int64_t ldw, Precision precision) {
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t o = 0; o < out; ++o)
      for (int64_t i = 0; i < in; ++i)
        dx[r * in + i] += operand(dy[r * out + o], precision) * operand(w[o * ldw + i], precision);
}
// dw [out, in] += dy^T x.
template <class T>
void add_weight_gradient(T* dw, int64_t ldw, const T* dy, int64_t out, const T* x, int64_t in,
                         int64_t rows, Precision precision) {
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t o = 0; o < out; ++o)
      for (int64_t i = 0; i < in; ++i)
        dw[o * ldw + i] += operand(dy[r * out + o], precision) * operand(x[r * in + i], precision);
}

template <class T>
void add_rows(T* sum, const T* x, int64_t rows, int64_t n) {
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t k = 0; k < n; ++k) sum[k] += x[r * n + k];
}
template <class T>
void repeat(T* out, const T* row, int64_t rows, int64_t n) {
  for (int64_t r = 0; r < rows; ++r) std::copy(row, row + n, out + r * n);
}
template <class T>
void relu(T* x, int64_t n) {
  for (int64_t k = 0; k < n; ++k) x[k] = x[k] < 0 ? T{0} : x[k];
}
// Where relu gave nothing, its gradient is nothing.
template <class T>
void mask(T* g, const T* y, int64_t n) {
  for (int64_t k = 0; k < n; ++k) g[k] = y[k] > 0 ? g[k] : T{0};
}
// Row r of `out` gets the sum of the rows of x that the pattern lists for it.
template <class T>
void add_gathered(T* out, const CsrView& pattern, const T* x, int64_t n) {
  for (int64_t r = 0; r < pattern.rows; ++r)
    for (int32_t e = pattern.offsets[r]; e < pattern.offsets[r + 1]; ++e)
      for (int64_t k = 0; k < n; ++k) out[r * n + k] += x[pattern.indices[e] * n + k];
}

// Memory for one board; `d` stands before gradients.
template <class T>
struct Scratch {
  T *h, *m, *dh, *dy, *dm;  // [nodes, C]
  T* u;                     // [nodes, hidden], or its gradient
  T *s, *p, *dp, *ds;       // [factors, C]
  T* collected;             // [factors, hidden], or its gradient

  Scratch(T* at, const RefineFactorSizes& z) {
    const int64_t state = z.nodes * z.channels, factors = z.factors() * z.channels;
    for (T** part : {&h, &m, &dh, &dy, &dm}) *part = std::exchange(at, at + state);
    for (T** part : {&s, &p, &dp, &ds}) *part = std::exchange(at, at + factors);
    u = at;
    collected = u + z.nodes * z.hidden;
  }
};

// m, s and p of the states h.
template <class T>
void messages(const RefineFactorSizes& z, const CsrView& members,
              const RefineFactorParameters<const T*>& w, const T* h, const Scratch<T>& x) {
  const int64_t c = z.channels;
  repeat(x.m, w.message_bias, z.nodes, c);
  add_product(x.m, z.nodes, c, h, c, w.message, c, z.precision);
  relu(x.m, z.nodes * c);
  std::fill(x.s, x.s + z.factors() * c, T{0});
  add_gathered(x.s, members, x.m, c);
  for (int t = 0; t < z.types.count; ++t) {
    const int64_t first = z.types.first[t], rows = z.types.first[t + 1] - first;
    repeat(x.p + first * c, w.factor_bias + t * c, rows, c);
    add_product(x.p + first * c, rows, c, x.s + first * c, c, w.factor + t * c * c, c, z.precision);
  }
  relu(x.p, z.factors() * c);
}

}  // namespace refine_factor_detail

inline int64_t refine_factor_workspace(const RefineFactorSizes& z) {
  return 5 * z.nodes * z.channels + 4 * z.factors() * z.channels +
         (z.nodes + z.factors()) * z.hidden;
}

template <class T>
void refine_factor(const RefineFactorArgs<T>& args) {
  using namespace refine_factor_detail;
  const RefineFactorSizes& z = args.sizes;
  const RefineFactorParameters<const T*>& w = args.parameters;
  const int64_t c = z.channels, n = z.hidden, state = z.nodes * c;
  const Scratch<T> x(args.workspace, z);
  for (int64_t b = 0; b < z.boards; ++b) {
    std::copy(args.h + b * state, args.h + (b + 1) * state, x.h);
    for (int64_t step = 0; step < z.steps; ++step) {
      messages(z, args.members, w, x.h, x);
      std::fill(x.collected, x.collected + z.factors() * n, T{0});
      for (int t = 0; t < z.types.count; ++t) {
        const int64_t first = z.types.first[t], rows = z.types.first[t + 1] - first;
        add_product(x.collected + first * n, rows, n, x.p + first * c, c, w.collect + t * c,
                    z.types.count * c, z.precision);
      }
      for (int64_t i = 0; i < z.nodes; ++i)
        repeat(x.u + i * n, w.clue + args.clues[b * z.nodes + i] * n, 1, n);
      add_product(x.u, z.nodes, n, x.h, c, w.own, 2 * c, z.precision);
      add_product(x.u, z.nodes, n, x.m, c, w.own + c, 2 * c, z.precision);
      add_gathered(x.u, args.factors, x.collected, n);
      relu(x.u, z.nodes * n);
      const int64_t at = (args.u != nullptr ? step * z.boards : 0) + b;
      for (int64_t i = 0; i < z.nodes; ++i) {
        T* y = x.h + i * c;
        for (int64_t k = 0; k < c; ++k) y[k] += w.update_bias[k];
        add_product(y, 1, c, x.u + i * n, n, w.update, n, z.precision);
        T squares = 0;
        for (int64_t k = 0; k < c; ++k) squares += y[k] * y[k];
        const T r = 1 / std::sqrt(squares / static_cast<T>(c) + static_cast<T>(z.epsilon));
        for (int64_t k = 0; k < c; ++k) y[k] *= r;
        if (args.r != nullptr) args.r[at * z.nodes + i] = r;
      }
      std::copy(x.h, x.h + state, args.states + at * state);
      if (args.u != nullptr) std::copy(x.u, x.u + z.nodes * n, args.u + at * z.nodes * n);
    }
  }
}

template <class T>
void refine_factor_backward(const RefineFactorBackwardArgs<T>& args) {
  using namespace refine_factor_detail;
  const RefineFactorSizes& z = args.sizes;
  const RefineFactorParameters<const T*>& w = args.parameters;
  const bool wanted = args.dparameters != nullptr;
  const RefineFactorParameters<T*> d =
      wanted ? split_parameters(args.dparameters, z) : RefineFactorParameters<T*>{};
  const int64_t c = z.channels, n = z.hidden, state = z.nodes * c, types = z.types.count;
  const Scratch<T> x(args.workspace, z);
  T *du = x.u, *dcollected = x.collected;
  if (wanted) std::fill(args.dparameters, args.dparameters + parameter_count(z), T{0});
  for (int64_t b = 0; b < z.boards; ++b) {
    std::fill(x.dh, x.dh + state, T{0});
    for (int64_t step = z.steps; step-- > 0;) {
      const int64_t at = step * z.boards + b;
      const T* h = step == 0 ? args.h + b * state : args.states + (at - z.boards) * state;
      const T* u = args.u + at * z.nodes * n;
      // Through the norm: h' = r y, and so y = h' / r.
      for (int64_t i = 0; i < z.nodes; ++i) {
        const T *out = args.states + at * state + i * c, *g = args.g + at * state + i * c;
        T* dh = x.dh + i * c;
        T dot = 0;
        for (int64_t k = 0; k < c; ++k) dot += out[k] * (dh[k] += g[k]);
        for (int64_t k = 0; k < c; ++k)
          x.dy[i * c + k] = args.r[at * z.nodes + i] * (dh[k] - out[k] * dot / static_cast<T>(c));
      }
      if (wanted) {
        add_rows(d.update_bias, x.dy, z.nodes, c);
        add_weight_gradient(d.update, n, x.dy, c, u, n, z.nodes, z.precision);
      }
      std::fill(du, du + z.nodes * n, T{0});
      add_data_gradient(du, z.nodes, n, x.dy, c, w.update, n, z.precision);
      mask(du, u, z.nodes * n);
      for (int64_t i = 0; wanted && i < z.nodes; ++i)
        add_rows(d.clue + args.clues[b * z.nodes + i] * n, du + i * n, 1, n);

      messages(z, args.members, w, h, x);
      std::fill(dcollected, dcollected + z.factors() * n, T{0});
      add_gathered(dcollected, args.members, du, n);
      std::fill(x.dp, x.dp + z.factors() * c, T{0});
      std::fill(x.ds, x.ds + z.factors() * c, T{0});
      for (int t = 0; t < types; ++t) {
        const int64_t first = z.types.first[t], rows = z.types.first[t + 1] - first;
        const T *dv = dcollected + first * n, *p = x.p + first * c;
        T* dp = x.dp + first * c;
        add_data_gradient(dp, rows, c, dv, n, w.collect + t * c, types * c, z.precision);
        mask(dp, p, rows * c);
        if (wanted) {
          add_weight_gradient(d.collect + t * c, types * c, dv, n, p, c, rows, z.precision);
          add_rows(d.factor_bias + t * c, dp, rows, c);
          add_weight_gradient(d.factor + t * c * c, c, dp, c, x.s + first * c, c, rows,
                              z.precision);
        }
        add_data_gradient(x.ds + first * c, rows, c, dp, c, w.factor + t * c * c, c, z.precision);
      }

      std::fill(x.dm, x.dm + state, T{0});
      add_data_gradient(x.dm, z.nodes, c, du, n, w.own + c, 2 * c, z.precision);
      add_gathered(x.dm, args.factors, x.ds, c);
      mask(x.dm, x.m, state);
      if (wanted) {
        add_weight_gradient(d.own, 2 * c, du, n, h, c, z.nodes, z.precision);
        add_weight_gradient(d.own + c, 2 * c, du, n, x.m, c, z.nodes, z.precision);
        add_rows(d.message_bias, x.dm, z.nodes, c);
        add_weight_gradient(d.message, c, x.dm, c, h, c, z.nodes, z.precision);
      }
      std::copy(x.dy, x.dy + state, x.dh);
      add_data_gradient(x.dh, z.nodes, c, du, n, w.own, 2 * c, z.precision);
      add_data_gradient(x.dh, z.nodes, c, x.dm, c, w.message, c, z.precision);
    }
    std::copy(x.dh, x.dh + state, args.dh + b * state);
  }
}

}  // namespace stillpoint::kernels::reference
