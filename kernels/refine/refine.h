// refine: T steps of a recurrent graph network (RefineNet), as one kernel. With the state h [nodes,
// H] of a sample, its input gates x [nodes, 3H] and the weights below, one step is
//
//   a = h W_receiver^T + b_receiver    c = h W_sender^T
//   s[i] = sum_{j in N(i)} relu(a[i] + c[j])                                     (message_sum.h)
//   h' = GRU with gates x + s W_message^T and h W_state^T + b_state              (gru_cell.h)
//
// forward   out[t] = h_{t+1} for t < steps, with h_0 = h; or h_steps alone
// backward  from g[t] = d loss / d out[t]: the gradients of h, x and all weights
//
// The order is sample by sample: all steps of one before the next, so that its state and the
// weights stay in cache (CPU) or in shared memory (CUDA), and nothing of a step but its state
// crosses memory. Nothing grows with steps but `out`, g and, on the CPU, `saved`: its backward
// reads back what it needs of the forward, which takes half as long as computing it again
// (ladder/README.md). CUDA and the reference compute it again from `out`.
//
// Weight gradients are summed over the samples of a chunk first and over the chunks last, in order.
// The batch is cut into at most `most_chunks` chunks, 32 on the CPU and 256 on CUDA (a block each),
// so that the workspace is bounded however large the batch is. Results are the same bits for any
// thread count; out, dh and dx for any batch too. Outputs may not alias inputs. NaN and infinities
// go as in message_sum.h and gru_cell.h.
//
// Cost per sample and step with N nodes and E entries: forward 16 N H^2 + 3 E H flops and the
// gates (gru_cell.h); backward 32 N H^2 + 4 E H, and the forward once more where nothing was
// saved. Bytes: forward 4 N H written for the state; on the CPU 28 N H for `saved`, which its
// backward reads; x, h and g once.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/common/csr.h"
#include "kernels/common/portable.h"
#include "kernels/common/status.h"
#include "kernels/common/stream.h"

namespace stillpoint::kernels {

struct RefineSize {
  int64_t steps;  // above 0
  int64_t batch;
  int64_t nodes;
  int64_t channels;     // H
  int64_t most_chunks;  // that the batch is cut into
};
constexpr int64_t kRefineCpuChunks = 32;
constexpr int64_t kRefineCudaChunks = 256;

// Samples of a chunk, and how many chunks there are.
inline int64_t refine_grain(const RefineSize& s) {
  return std::max<int64_t>(1, (s.batch + s.most_chunks - 1) / s.most_chunks);
}
inline int64_t refine_chunks(const RefineSize& s) {
  return (s.batch + refine_grain(s) - 1) / refine_grain(s);
}

template <class T>
struct RefineWeights {
  const T* receiver;       // [H, H]
  const T* receiver_bias;  // [H]
  const T* sender;         // [H, H]
  const T* message;        // [3H, H]
  const T* state;          // [3H, H]
  const T* state_bias;     // [3H]
};

// Which states the forward leaves.
enum class RefineStates : uint8_t { all, last };

template <class T>
struct RefineArgs {
  const T* h;  // [batch, nodes, H]
  const T* x;  // [batch, nodes, 3H]
  RefineWeights<T> weights;
  T* out;        // [steps, batch, nodes, H], or [batch, nodes, H] of the last state
  T* saved;      // [refine_saved(size)] for the backward on the CPU, or null; others ignore it
  T* workspace;  // [refine_workspace(size)]
  CsrView pattern;
  RefineSize size;
  RefineStates states = RefineStates::all;
};

template <class T>
struct RefineBackwardArgs {
  const T* h;  // [batch, nodes, H]
  const T* x;  // [batch, nodes, 3H]
  RefineWeights<T> weights;
  const T* out;    // [steps, batch, nodes, H], from the forward
  const T* saved;  // [refine_saved(size)], from the forward on the CPU; others ignore it
  const T* g;      // [steps, batch, nodes, H]
  T* dh;           // [batch, nodes, H]
  T* dx;           // [batch, nodes, 3H]; or null where it is not wanted
  T* dweights;     // [refine_parameters(H)], in the order below; or null where none is wanted
  T* workspace;    // [refine_backward_workspace(size)]
  CsrView pattern;
  CsrView transposed;
  RefineSize size;
};

// Where the gradients of the weights stand in `dweights`: [receiver; sender; state; message] as one
// matrix of 8H rows, then receiver_bias [H] and state_bias [3H].
STILLPOINT_HD inline int64_t refine_parameters(int64_t channels) {
  return (8 * channels + 4) * channels;
}

// What the CPU keeps of a sample and step: seven values a node and channel, [a, c, s, r, z, u, n]
// with the gates r, z, n of gru_cell.h and the candidate's recurrent part u (its h_n).
inline int64_t refine_saved(const RefineSize& s) {
  return 7 * s.steps * s.batch * s.nodes * s.channels;
}
// The weights of the three gates for h, or for s, on the CPU: padded to whole vectors of at most 16
// numbers.
inline int64_t refine_gate_weights(int64_t channels) {
  return 3 * channels * ((channels + 15) / 16 * 16);
}
// All weights, rearranged for the CPU's forward.
inline int64_t refine_packed_weights(int64_t channels) {
  return 2 * (channels + 1) * channels + 2 * refine_gate_weights(channels);
}
// These, and what a chunk needs for one step of one sample; or what the reference needs, which goes
// through the samples one by one.
constexpr int64_t kRefineScratch = 5;
inline int64_t refine_workspace(const RefineSize& s) {
  return refine_packed_weights(s.channels) +
         std::max<int64_t>(kRefineScratch * refine_chunks(s), 10) * s.nodes * s.channels;
}
// The same for the backward with the weight gradients of every chunk; with a chunk's, 19 states are
// what the reference needs.
constexpr int64_t kRefineBackwardScratch = 7;
inline int64_t refine_backward_workspace(const RefineSize& s) {
  return 5 * s.channels * s.channels + 12 * s.nodes * s.channels +
         refine_chunks(s) *
             (kRefineBackwardScratch * s.nodes * s.channels + refine_parameters(s.channels));
}

namespace cpu {
void refine(const RefineArgs<float>& args);
void refine_backward(const RefineBackwardArgs<float>& args);
}  // namespace cpu

namespace cuda {
// CUDA's own: packed weights; for the backward, beside them, gradients and six arrays a chunk.
int64_t refine_workspace(const RefineSize& size);
int64_t refine_backward_workspace(const RefineSize& size);
Status refine(const RefineArgs<float>& args, Stream stream);
Status refine_backward(const RefineBackwardArgs<float>& args, Stream stream);
// Whether a block's share of the current device's shared memory holds a sample: three arrays of
// nodes x H and the tiles of the products. Otherwise the op composes the step from
// other ops.
bool refine_fits(int64_t nodes, int64_t channels);
}  // namespace cuda

}  // namespace stillpoint::kernels
