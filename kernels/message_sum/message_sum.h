// message_sum: the message layer of a graph network, fused; no edge is ever stored.
//
//   forward   out[b,i,k] = sum_{j in N(i)} relu(a[b,i,k] + c[b,j,k])
//   backward  da[b,i,k]  = g[b,i,k] * #{ j in N(i) : a[b,i,k] + c[b,j,k] > 0 }
//             dc[b,j,k]  = sum_{i : j in N(i)} g[b,i,k] [a[b,i,k] + c[b,j,k] > 0]
//   tangent   out[b,i,k] = sum_{j in N(i)} [a[b,i,k] + c[b,j,k] > 0] (ta[b,i,k] + tc[b,j,k])
//
// The tangent is the derivative of the forward along (ta, tc); backward and tangent are each
// other's transpose in (g; ta, tc), which is all that second derivatives need, relu'' being 0 (and
// relu'(0) = 0).
//
// N(i) are the entries of row i of the pattern, repeats counted. Sums run in the order of the row
// (of the transposed row for dc, whose entries must stand in the order of their rows), so a
// backend's result is the same bits for any batch, form, thread count and launch. Outputs may not
// alias inputs. NaN in a or c, and infinities of opposite signs, give NaN in every message that
// adds them (forward) and count as "not above 0" (backward, tangent).
//
// Cost with E entries: forward 3 B E C flops; a and the gathered c are read from cache, of which a,
// c and out cross memory once: 4 B (2 rows + cols) C bytes. Backward 4 B E C flops, 4 B (3 rows + 2
// cols) C bytes. Tangent 4 B E C flops, 4 B (3 rows + 2 cols) C bytes.
#pragma once

#include <cstdint>

#include "kernels/common/csr.h"
#include "kernels/common/status.h"
#include "kernels/common/stream.h"

namespace stillpoint::kernels {

// How CUDA cuts the work; both ways give the same bits, and tests and benchmarks force one.
//
// row: every row is computed on its own, from c in memory (backward: rows for da, columns for dc).
//
// slab: a block owns 32 channels of one sample and reads them of c (and a, g, tc) into shared
// memory once, instead of once per neighbour.
//
// automatic: slab where the tile fits into 48 KiB and slabs suffice to fill a large GPU (128).
enum class MessageSumForm : uint8_t { automatic, row, slab };

template <class T>
struct MessageSumArgs {
  const T* a;  // [batch, rows, channels]
  const T* c;  // [batch, cols, channels]
  T* out;      // [batch, rows, channels]
  CsrView pattern;
  int64_t batch;
  int64_t channels;
  MessageSumForm form = MessageSumForm::automatic;
};

template <class T>
struct MessageSumBackwardArgs {
  const T* a;  // [batch, rows, channels]
  const T* c;  // [batch, cols, channels]
  const T* g;  // [batch, rows, channels]
  T* da;       // [batch, rows, channels]
  T* dc;       // [batch, cols, channels]
  CsrView pattern;
  CsrView transposed;
  int64_t batch;
  int64_t channels;
  MessageSumForm form = MessageSumForm::automatic;
};

template <class T>
struct MessageSumTangentArgs {
  const T* a;   // [batch, rows, channels]
  const T* c;   // [batch, cols, channels]
  const T* ta;  // [batch, rows, channels]
  const T* tc;  // [batch, cols, channels]
  T* out;       // [batch, rows, channels]
  CsrView pattern;
  int64_t batch;
  int64_t channels;
  MessageSumForm form = MessageSumForm::automatic;
};

namespace cpu {
void message_sum(const MessageSumArgs<float>& args);
void message_sum_backward(const MessageSumBackwardArgs<float>& args);
void message_sum_tangent(const MessageSumTangentArgs<float>& args);
}  // namespace cpu

namespace cuda {
Status message_sum(const MessageSumArgs<float>& args, Stream stream);
Status message_sum_backward(const MessageSumBackwardArgs<float>& args, Stream stream);
Status message_sum_tangent(const MessageSumTangentArgs<float>& args, Stream stream);
}  // namespace cuda

}  // namespace stillpoint::kernels
