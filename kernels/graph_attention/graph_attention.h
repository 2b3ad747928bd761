// graph_attention: attention along the entries j of row i of a pattern alone, over heads, with
// s[i,j] = scale q_i . k_j:
//
//   forward    log_sum_i = log sum_j exp s[i,j]        p[i,j] = exp(s[i,j] - log_sum_i)
//              out_i = sum_j p[i,j] v_j
//   backward   dv_j = sum_i p[i,j] g_i                 delta_i = g_i . out_i
//              ds[i,j] = p[i,j] (g_i . v_j - delta_i)
//              dq_i = scale sum_j ds[i,j] k_j          dk_j = scale sum_i ds[i,j] q_i
//
// On the complete graph with self-loops it is attention without a mask. Repeated entries count as
// often as they stand there. A row without entries, or with scores of -inf only, gives 0, log_sum
// +inf and gradients 0. NaN in a query, or in a key that it listens to, makes its row NaN.
//
// Rows are tokens and hold all heads side by side, as in attention; head h is the columns [h width,
// (h + 1) width). Nothing is stored per entry: the backward forms scores again, from the rows of
// the pattern for dq and from those of its transpose for dk and dv. Sums run in the order of the
// rows: the same bits for any thread count. Outputs may not alias inputs.
//
// Cost with P = batch heads entries: forward 4 P width flops and P exponentials, backward 14 P
// width flops and 2 P exponentials.
#pragma once

#include <cstdint>

#include "kernels/common/csr.h"
#include "kernels/common/status.h"
#include "kernels/common/stream.h"

namespace stillpoint::kernels {

constexpr int64_t kGraphAttentionWidth = 128;  // the widest head

struct GraphAttentionShape {
  int64_t batch;
  int64_t heads;
  int64_t width;  // 1 to kGraphAttentionWidth
  double scale;
};

template <class T>
struct GraphAttentionArgs {
  const T* q;  // [batch, rows, heads width]
  const T* k;  // [batch, cols, heads width]
  const T* v;  // [batch, cols, heads width]
  T* out;      // [batch, rows, heads width]
  T* log_sum;  // [batch, rows, heads]
  CsrView pattern;
  GraphAttentionShape shape;
};

template <class T>
struct GraphAttentionBackwardArgs {
  const T* q;        // [batch, rows, heads width]
  const T* k;        // [batch, cols, heads width]
  const T* v;        // [batch, cols, heads width]
  const T* out;      // [batch, rows, heads width], from the forward
  const T* log_sum;  // [batch, rows, heads], from the forward
  const T* g;        // [batch, rows, heads width]
  T* dq;             // [batch, rows, heads width]
  T* dk;             // [batch, cols, heads width]
  T* dv;             // [batch, cols, heads width]
  T* delta;          // [batch, rows, heads]
  CsrView pattern;
  CsrView transposed;
  GraphAttentionShape shape;
};

namespace cpu {
void graph_attention(const GraphAttentionArgs<float>& args);
void graph_attention_backward(const GraphAttentionBackwardArgs<float>& args);
}  // namespace cpu

namespace cuda {
Status graph_attention(const GraphAttentionArgs<float>& args, Stream stream);
Status graph_attention_backward(const GraphAttentionBackwardArgs<float>& args, Stream stream);
}  // namespace cuda

}  // namespace stillpoint::kernels
