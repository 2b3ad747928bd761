// factor_sum by its formula. In double it is the truth that the tests hold the backends to.
#pragma once

#include <cstdint>

#include "kernels/factor_sum/factor_sum.h"

namespace stillpoint::kernels::reference {

template <class T>
void factor_sum(const FactorSumArgs<T>& args) {
  const CsrView& p = args.pattern;
  for (int64_t b = 0; b < args.batch; ++b)
    for (int64_t f = 0; f < p.rows; ++f)
      for (int64_t k = 0; k < args.channels; ++k) {
        T sum = 0;
        for (int32_t e = p.offsets[f]; e < p.offsets[f + 1]; ++e)
          sum += args.x[(b * p.cols + p.indices[e]) * args.channels + k];
        args.out[(b * p.rows + f) * args.channels + k] = sum;
      }
}

}  // namespace stillpoint::kernels::reference
