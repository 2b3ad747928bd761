// gru_cell: the gates of a gated recurrent unit, fused. With the pre-activations x_gates = W x + b
// and h_gates = U h + c, each holding reset, update and candidate [xr, xz, xn], per channel:
//
//   r = sigmoid(xr + hr)    z = sigmoid(xz + hz)    n = tanh(xn + r hn)
//   forward   out = (1 - z) n + z h
//   backward  an = g (1 - z) (1 - n^2)    ar = an hn r (1 - r)    az = g (h - n) z (1 - z)
//             dx_gates = [ar, az, an]     dh_gates = [ar, az, an r]    dh = g z
//
// Cho et al., "Learning phrase representations using RNN encoder-decoder", EMNLP 2014, with the
// reset gate behind the product as in cuDNN (its "reset after" form). The backward computes the
// gates again instead of reading them back: three elementary functions per channel cost less than
// the memory that keeping them would hold for every step of a long refinement.
//
// Elements are independent: the same bits for any batch, thread count and launch. Outputs may not
// alias inputs. NaN in any operand of a channel gives NaN in that channel.
//
// Cost per row and channel: forward 8 flops and 3 functions, 32 bytes; backward 20 flops and 3
// functions, 60 bytes.
#pragma once

#include <cstdint>

#include "kernels/common/status.h"
#include "kernels/common/stream.h"

namespace stillpoint::kernels {

template <class T>
struct GruCellArgs {
  const T* x_gates;  // [rows, 3, channels]
  const T* h_gates;  // [rows, 3, channels]
  const T* h;        // [rows, channels]
  T* out;            // [rows, channels]
  int64_t rows;
  int64_t channels;
};

template <class T>
struct GruCellBackwardArgs {
  const T* x_gates;  // [rows, 3, channels]
  const T* h_gates;  // [rows, 3, channels]
  const T* h;        // [rows, channels]
  const T* g;        // [rows, channels]
  T* dx_gates;       // [rows, 3, channels]
  T* dh_gates;       // [rows, 3, channels]
  T* dh;             // [rows, channels]
  int64_t rows;
  int64_t channels;
};

namespace cpu {
void gru_cell(const GruCellArgs<float>& args);
void gru_cell_backward(const GruCellBackwardArgs<float>& args);
}  // namespace cpu

namespace cuda {
Status gru_cell(const GruCellArgs<float>& args, Stream stream);
Status gru_cell_backward(const GruCellBackwardArgs<float>& args, Stream stream);
}  // namespace cuda

}  // namespace stillpoint::kernels
