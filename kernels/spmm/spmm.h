// spmm: a sparse matrix times dense ones. A has the pattern's entries with one value each, and
// multiplies every sample of a batch.
//
//   spmm         out[b,i,k] = sum_{e in row i} value(e) x[b,column(e),k]
//                value(e) = values[e], or values[order[e]] where an order is given
//   spmm_values  out[e] = sum_{b,k} g[b,row(e),k] x[b,column(e),k]
//
// Out = A X gives dX = A^T G, which is spmm over the transposed pattern with the same values read
// through its order, and d values = the entries of G X^T that A has (a sampled dense-dense
// product), which is spmm_values. All three are linear in each operand and are each other's
// derivatives.
//
// Sums run in the order of the row (spmm), so the result is the same bits for any batch, thread
// count and launch; multiply and add are one rounding where the instruction set has it.
// spmm_values adds in an order that depends on the instruction set or device alone. Repeated
// entries count each by itself; rows without entries give 0. Outputs may not alias inputs. 0 times
// infinity is NaN, as in any product.
//
// Cost with E entries: spmm 2 B E C flops; values, x and out must cross memory once, 4 (E + B (rows
// + cols) C) bytes, and 4 B E C bytes of x are read from cache. spmm_values the same flops and
// bytes, with twice the reads from cache.
#pragma once

#include <cstdint>

#include "kernels/common/csr.h"
#include "kernels/common/status.h"
#include "kernels/common/stream.h"

struct cusparseContext;  // what cusparseHandle_t points to

namespace stillpoint::kernels {

template <class T>
struct SpmmArgs {
  const T* values;       // [entries]
  const int32_t* order;  // [entries], a permutation of the values; or nullptr
  const T* x;            // [batch, cols, channels]
  T* out;                // [batch, rows, channels]
  CsrView pattern;
  int64_t batch;
  int64_t channels;
};

template <class T>
struct SpmmValuesArgs {
  const T* g;  // [batch, rows, channels]
  const T* x;  // [batch, cols, channels]
  T* out;      // [entries]
  CsrView pattern;
  int64_t batch;
  int64_t channels;
};

namespace cpu {
void spmm(const SpmmArgs<float>& args);
void spmm_values(const SpmmValuesArgs<float>& args);
}  // namespace cpu

namespace cuda {
Status spmm(const SpmmArgs<float>& args, Stream stream);
Status spmm_values(const SpmmValuesArgs<float>& args, Stream stream);

// spmm by cuSPARSE: the same contract, but for the order of the sums, which is the library's own
// and may differ from call to call. `batch` fits in an int. `workspace` is aligned to 256 bytes and
// as large as spmm_library_workspace says for the same arguments.
Status spmm_library_workspace(const SpmmArgs<float>& args, cusparseContext* handle, int64_t* bytes);
Status spmm_library(const SpmmArgs<float>& args, cusparseContext* handle, void* workspace,
                    Stream stream);
}  // namespace cuda

}  // namespace stillpoint::kernels
