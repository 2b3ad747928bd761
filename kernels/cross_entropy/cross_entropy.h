// cross_entropy and softmax over the rows of x [rows, channels].
//
//   softmax            out[r,k] = exp(x[r,k] - m_r) / sum_l exp(x[r,l] - m_r),  m_r = max_l x[r,l]
//   softmax_backward   dx[r,k] = y[r,k] (g[r,k] - sum_l g[r,l] y[r,l])
//   forward            log_sum[r] = log sum_l exp x[r,l]
//                      loss = scale sum_{r in R} (log_sum[r] - x[r, t_r]),  R = { r : t_r >= 0 },
//                      scale = 1 / |R|, or 0 if R is empty
//   backward           dx[r,k] = g scale (exp(x[r,k] - log_sum[r]) - [k = t_r]) in R, else 0
//
// What the forward saves for the backward is one number a row; the probabilities are computed again
// from the logits. Where logits are so large (1e7 and more) that log_sum rounds the logarithm of a
// sum away, the gradient has equal largest probabilities as 1 each. A target >= channels makes
// log_sum of its row, and with it the loss, NaN.
//
// The loss adds rows in groups of kCrossEntropyRows, then the groups in order: the same bits for
// any thread count. Outputs may not alias inputs. A row with NaN or +inf in it has NaN results;
// -inf has probability 0, and a row of nothing else NaN.
//
// Cost per element: forward one exp, 3 flops and 4 bytes; backward one exp, 3 flops and 8 bytes;
// softmax one exp, 4 flops and 8 bytes; its backward 4 flops and 12 bytes.
#pragma once

#include <cstdint>

#include "kernels/common/status.h"
#include "kernels/common/stream.h"

namespace stillpoint::kernels {

template <class T>
struct SoftmaxArgs {
  const T* x;  // [rows, channels]
  T* out;      // [rows, channels]
  int64_t rows;
  int64_t channels;
};

template <class T>
struct SoftmaxBackwardArgs {
  const T* y;  // [rows, channels], the forward's output
  const T* g;  // [rows, channels]
  T* dx;       // [rows, channels]
  int64_t rows;
  int64_t channels;
};

constexpr int64_t kCrossEntropyRows = 64;
// Elements of CrossEntropyArgs::workspace.
constexpr int64_t cross_entropy_workspace(int64_t rows) {
  return 2 * ((rows + kCrossEntropyRows - 1) / kCrossEntropyRows);
}

template <class T>
struct CrossEntropyArgs {
  const T* x;              // [rows, channels]
  const int32_t* targets;  // [rows]
  T* log_sum;              // [rows]
  T* scale;                // [1]
  T* loss;                 // [1]
  T* workspace;            // [cross_entropy_workspace(rows)]
  int64_t rows;
  int64_t channels;
};

template <class T>
struct CrossEntropyBackwardArgs {
  const T* x;              // [rows, channels]
  const int32_t* targets;  // [rows]
  const T* log_sum;        // [rows]
  const T* scale;          // [1]
  const T* g;              // [1]
  T* dx;                   // [rows, channels]
  int64_t rows;
  int64_t channels;
};

namespace cpu {
void softmax(const SoftmaxArgs<float>& args);
void softmax_backward(const SoftmaxBackwardArgs<float>& args);
void cross_entropy(const CrossEntropyArgs<float>& args);
void cross_entropy_backward(const CrossEntropyBackwardArgs<float>& args);
}  // namespace cpu

namespace cuda {
Status softmax(const SoftmaxArgs<float>& args, Stream stream);
Status softmax_backward(const SoftmaxBackwardArgs<float>& args, Stream stream);
Status cross_entropy(const CrossEntropyArgs<float>& args, Stream stream);
Status cross_entropy_backward(const CrossEntropyBackwardArgs<float>& args, Stream stream);
}  // namespace cuda

}  // namespace stillpoint::kernels
