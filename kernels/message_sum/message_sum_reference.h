// message_sum by its formula. In double it is the truth that the tests hold the backends to.
#pragma once

#include <cstdint>

#include "kernels/message_sum/message_sum.h"

namespace stillpoint::kernels::reference {

template <class T>
void message_sum(const MessageSumArgs<T>& args) {
  const CsrView& p = args.pattern;
  for (int64_t b = 0; b < args.batch; ++b)
    for (int64_t i = 0; i < p.rows; ++i)
      for (int64_t k = 0; k < args.channels; ++k) {
        const int64_t at = (b * p.rows + i) * args.channels + k;
        T sum = 0;
        for (int32_t e = p.offsets[i]; e < p.offsets[i + 1]; ++e) {
          const T m = args.a[at] + args.c[(b * p.cols + p.indices[e]) * args.channels + k];
          sum += m < 0 ? T{0} : m;  // keeps NaN
        }
        args.out[at] = sum;
      }
}

template <class T>
void message_sum_backward(const MessageSumBackwardArgs<T>& args) {
  const CsrView& p = args.pattern;
  const CsrView& t = args.transposed;
  for (int64_t b = 0; b < args.batch; ++b)
    for (int64_t k = 0; k < args.channels; ++k) {
      const auto row = [&](int64_t i) { return (b * p.rows + i) * args.channels + k; };
      const auto col = [&](int64_t j) { return (b * p.cols + j) * args.channels + k; };
      for (int64_t i = 0; i < p.rows; ++i) {
        int64_t active = 0;
        for (int32_t e = p.offsets[i]; e < p.offsets[i + 1]; ++e)
          active += args.a[row(i)] + args.c[col(p.indices[e])] > 0;
        args.da[row(i)] = args.g[row(i)] * static_cast<T>(active);
      }
      for (int64_t j = 0; j < p.cols; ++j) {
        T sum = 0;
        for (int32_t e = t.offsets[j]; e < t.offsets[j + 1]; ++e) {
          const int64_t i = row(t.indices[e]);
          if (args.a[i] + args.c[col(j)] > 0) sum += args.g[i];
        }
        args.dc[col(j)] = sum;
      }
    }
}

template <class T>
void message_sum_tangent(const MessageSumTangentArgs<T>& args) {
  const CsrView& p = args.pattern;
  for (int64_t b = 0; b < args.batch; ++b)
    for (int64_t i = 0; i < p.rows; ++i)
      for (int64_t k = 0; k < args.channels; ++k) {
        const int64_t at = (b * p.rows + i) * args.channels + k;
        T sum = 0;
        for (int32_t e = p.offsets[i]; e < p.offsets[i + 1]; ++e) {
          const int64_t from = (b * p.cols + p.indices[e]) * args.channels + k;
          if (args.a[at] + args.c[from] > 0) sum += args.ta[at] + args.tc[from];
        }
        args.out[at] = sum;
      }
}

}  // namespace stillpoint::kernels::reference
