// rms_norm over the rows of x [rows, channels], with s = x + residual (or x alone):
//
//   forward    r = 1 / sqrt(mean_k(s[k]^2) + epsilon)        out[k] = w[k] s[k] r
//   backward   dx[k] = r (g[k] w[k] - s[k] r^2 mean_l(g[l] w[l] s[l])), also the residual's
//              dw[k] = sum over rows of g[k] s[k] r
//
// Zhang, Sennrich: "Root mean square layer normalization", NeurIPS 2019, equation 4, with epsilon
// added for rows of zeros. The forward saves r, one number a row.
//
// dw comes as partial sums over groups of kRmsNormRows rows; whoever calls adds the groups. So
// results are the same bits for any thread count. Outputs may not alias inputs. NaN in a row of s
// makes all of the row NaN; an infinity makes r 0, so that it becomes NaN itself and the finite
// elements of its row 0.
//
// Cost per element: forward 4 flops, 8 bytes (12 with residual); backward 9 flops, 12 bytes (16).
#pragma once

#include <cstdint>

#include "kernels/common/status.h"
#include "kernels/common/stream.h"

namespace stillpoint::kernels {

template <class T>
struct RmsNormArgs {
  const T* x;         // [rows, channels]
  const T* residual;  // [rows, channels], or null: none
  const T* weight;    // [channels], or null: all 1
  T* out;             // [rows, channels]
  T* r;               // [rows]
  int64_t rows;
  int64_t channels;
  double epsilon;
};

constexpr int64_t kRmsNormRows = 32;
constexpr int64_t rms_norm_groups(int64_t rows) { return (rows + kRmsNormRows - 1) / kRmsNormRows; }

template <class T>
struct RmsNormBackwardArgs {
  const T* x;         // [rows, channels]
  const T* residual;  // [rows, channels], or null
  const T* weight;    // [channels], or null
  const T* r;         // [rows], from the forward
  const T* g;         // [rows, channels]
  T* dx;              // [rows, channels]
  T* dw_groups;       // [rms_norm_groups(rows), channels], or null: not wanted
  int64_t rows;
  int64_t channels;
};

namespace cpu {
void rms_norm(const RmsNormArgs<float>& args);
void rms_norm_backward(const RmsNormBackwardArgs<float>& args);
}  // namespace cpu

namespace cuda {
Status rms_norm(const RmsNormArgs<float>& args, Stream stream);
Status rms_norm_backward(const RmsNormBackwardArgs<float>& args, Stream stream);
}  // namespace cuda

}  // namespace stillpoint::kernels
