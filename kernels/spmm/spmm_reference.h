// spmm by its formula. In double it is the truth that the tests hold the backends to.
#pragma once

#include <cstdint>

#include "kernels/spmm/spmm.h"

namespace stillpoint::kernels::reference {

template <class T>
void spmm(const SpmmArgs<T>& args) {
  const CsrView& p = args.pattern;
  for (int64_t b = 0; b < args.batch; ++b)
    for (int64_t i = 0; i < p.rows; ++i)
      for (int64_t k = 0; k < args.channels; ++k) {
        T sum = 0;
        for (int32_t e = p.offsets[i]; e < p.offsets[i + 1]; ++e)
          sum += args.values[args.order ? args.order[e] : e] *
                 args.x[(b * p.cols + p.indices[e]) * args.channels + k];
        args.out[(b * p.rows + i) * args.channels + k] = sum;
      }
}

template <class T>
void spmm_values(const SpmmValuesArgs<T>& args) {
  const CsrView& p = args.pattern;
  for (int64_t i = 0; i < p.rows; ++i)
    for (int32_t e = p.offsets[i]; e < p.offsets[i + 1]; ++e) {
      T sum = 0;
      for (int64_t b = 0; b < args.batch; ++b)
        for (int64_t k = 0; k < args.channels; ++k)
          sum += args.g[(b * p.rows + i) * args.channels + k] *
                 args.x[(b * p.cols + p.indices[e]) * args.channels + k];
      args.out[e] = sum;
    }
}

}  // namespace stillpoint::kernels::reference
