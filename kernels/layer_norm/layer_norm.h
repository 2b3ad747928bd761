// layer_norm over the rows of x [rows, channels]:
//
//   forward    m = mean_k x[k]      r = 1 / sqrt(mean_k((x[k] - m)^2) + epsilon)
//              out[k] = w[k] y[k] + b[k], with y[k] = (x[k] - m) r
//   backward   dx[k] = r (g[k] w[k] - mean_l(g[l] w[l]) - y[k] mean_l(g[l] w[l] y[l]))
//              dw[k] = sum over rows of g[k] y[k]        db[k] = sum over rows of g[k]
//
// Ba, Kiros, Hinton: "Layer normalization", arXiv 1607.06450. The variance is that of the centred
// row (a second pass over it), so that a large mean costs no digits beyond its own. The forward
// saves m and r, two numbers a row.
//
// dw and db come as partial sums over groups of kLayerNormRows rows; whoever calls adds the groups.
// So results are the same bits for any thread count. Outputs may not alias inputs. NaN or an
// infinity in a row makes all of the row NaN.
//
// Cost per element: forward 8 flops, 8 bytes; backward 14 flops, 12 bytes.
#pragma once

#include <cstdint>

#include "kernels/common/status.h"
#include "kernels/common/stream.h"

namespace stillpoint::kernels {

template <class T>
struct LayerNormArgs {
  const T* x;       // [rows, channels]
  const T* weight;  // [channels], or null: all 1
  const T* bias;    // [channels], or null: all 0
  T* out;           // [rows, channels]
  T* mean;          // [rows]
  T* r;             // [rows]
  int64_t rows;
  int64_t channels;
  double epsilon;
};

constexpr int64_t kLayerNormRows = 32;
constexpr int64_t layer_norm_groups(int64_t rows) {
  return (rows + kLayerNormRows - 1) / kLayerNormRows;
}

template <class T>
struct LayerNormBackwardArgs {
  const T* x;       // [rows, channels]
  const T* weight;  // [channels], or null
  const T* mean;    // [rows], from the forward
  const T* r;       // [rows], from the forward
  const T* g;       // [rows, channels]
  T* dx;            // [rows, channels]
  T* dw_groups;     // [layer_norm_groups(rows), channels], or null: neither is wanted
  T* db_groups;     // [layer_norm_groups(rows), channels]; null where dw_groups is
  int64_t rows;
  int64_t channels;
};

namespace cpu {
void layer_norm(const LayerNormArgs<float>& args);
void layer_norm_backward(const LayerNormBackwardArgs<float>& args);
}  // namespace cpu

namespace cuda {
Status layer_norm(const LayerNormArgs<float>& args, Stream stream);
Status layer_norm_backward(const LayerNormBackwardArgs<float>& args, Stream stream);
}  // namespace cuda

}  // namespace stillpoint::kernels
