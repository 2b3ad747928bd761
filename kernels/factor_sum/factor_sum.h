// factor_sum: what the factors of a factor graph hear from their variables, and the way back.
//
//   factor_sum        out[b,f,k] = sum_{v in M(f)} x[b,v,k]      (pattern: rows are factors)
//   factor_broadcast  the same kernel over the transposed pattern: every variable adds up the
//                     factors it belongs to
//
// M(f) are the entries of row f, repeats counted; a row without entries gives 0. Linear; each is
// the other's gradient. It is spmm with all values 1, and spmm without values calls it. It has
// kernels of its own because there is nothing to multiply and because rows are short and usually of
// one length (9 cells to a Sudoku unit, 3 units to a cell): for such a `pattern.degree` the members
// of a row are unrolled.
//
// Members are added in the order of the row, starting from 0, so the result is the same bits for
// any batch, thread count, instruction set and launch. The output may not alias the input. NaN and
// infinities go where they are members and nowhere else.
//
// Cost with E entries: B E C flops; x and out must cross memory once, 4 B (rows + cols) C bytes,
// and 4 B E C bytes of x are read from cache.
#pragma once

#include <cstdint>

#include "kernels/common/csr.h"
#include "kernels/common/status.h"
#include "kernels/common/stream.h"

namespace stillpoint::kernels {

template <class T>
struct FactorSumArgs {
  const T* x;  // [batch, cols, channels]
  T* out;      // [batch, rows, channels]
  CsrView pattern;
  int64_t batch;
  int64_t channels;
};

namespace cpu {
void factor_sum(const FactorSumArgs<float>& args);
}

namespace cuda {
Status factor_sum(const FactorSumArgs<float>& args, Stream stream);
}

}  // namespace stillpoint::kernels
