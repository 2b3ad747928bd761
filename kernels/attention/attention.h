// attention over heads, with s[i,j] = scale q_i . k_j for the keys j that query i may see:
//
//   forward    log_sum_i = log sum_j exp s[i,j]        p[i,j] = exp(s[i,j] - log_sum_i)
//              out_i = sum_j p[i,j] v_j
//   backward   dv_j = sum_i p[i,j] g_i                 delta_i = g_i . out_i
//              ds[i,j] = p[i,j] (g_i . v_j - delta_i)
//              dq_i = scale sum_j ds[i,j] k_j          dk_j = scale sum_i ds[i,j] q_i
//
// No array of queries x keys exists: scores are formed in blocks, the forward keeps each row's
// largest score and sum so far (Milakov, Gimelshein: "Online normalizer calculation for softmax",
// arXiv 1805.02867), the backward forms them again from log_sum (Dao et al.: "FlashAttention",
// arXiv 2205.14135). Memory is linear in queries and keys.
//
// Rows are tokens and hold all heads side by side, as a linear layer writes and reads them: no
// operand is ever transposed in memory. Head h is the columns [h width, (h + 1) width).
//
// A query sees key j if key_mask[b, j] is not 0 and, with AttentionMask::causal, j <= i. A query
// that sees no key, or only scores of -inf, gives 0, log_sum +inf, and gradients 0. What lies in a
// masked key or its value is never read into a result. NaN in a query, or in a key that it sees,
// makes its row NaN; so may NaN in a later token that AttentionMask::causal hides (its weight is 0,
// and 0 NaN is NaN). Blocks are cut by the problem alone and added in order: the same bits for any
// thread count. Outputs may not alias inputs.
//
// Cost with P pairs (batch heads queries keys, about half with AttentionMask::causal): forward 4 P
// width flops and P exponentials, backward 10 P width (CUDA 14: dq and dk, dv are two kernels, for
// want of atomics with an order) and P exponentials.
#pragma once

#include <cstdint>

#include "kernels/common/status.h"
#include "kernels/common/stream.h"

namespace stillpoint::kernels {

enum class AttentionMask : uint8_t { none, causal };

constexpr int64_t kAttentionWidth = 128;  // the widest head: what one block keeps on chip

struct AttentionShape {
  int64_t batch;
  int64_t queries;
  int64_t keys;
  int64_t heads;
  int64_t width;  // 1 to kAttentionWidth
  AttentionMask mask;
  double scale;
};

template <class T>
struct AttentionArgs {
  const T* q;               // [batch, queries, heads width]
  const T* k;               // [batch, keys, heads width]
  const T* v;               // [batch, keys, heads width]
  const int32_t* key_mask;  // [batch, keys], or null: every key may be seen
  T* out;                   // [batch, queries, heads width]
  T* log_sum;               // [batch, heads, queries]
  T* workspace;             // [cpu::attention_workspace(shape)]; the CPU's alone
  AttentionShape shape;
};

template <class T>
struct AttentionBackwardArgs {
  const T* q;               // [batch, queries, heads width]
  const T* k;               // [batch, keys, heads width]
  const T* v;               // [batch, keys, heads width]
  const int32_t* key_mask;  // [batch, keys], or null
  const T* out;             // [batch, queries, heads width], from the forward
  const T* log_sum;         // [batch, heads, queries], from the forward
  const T* g;               // [batch, queries, heads width]
  T* dq;                    // [batch, queries, heads width]
  T* dk;                    // [batch, keys, heads width]
  T* dv;                    // [batch, keys, heads width]
  T* delta;                 // [batch, heads, queries]
  T* workspace;             // [cpu::attention_backward_workspace(shape)]; the CPU's alone
  AttentionShape shape;
};

namespace cpu {
int64_t attention_workspace(const AttentionShape& shape);
int64_t attention_backward_workspace(const AttentionShape& shape);
void attention(const AttentionArgs<float>& args);
void attention_backward(const AttentionBackwardArgs<float>& args);
}  // namespace cpu

namespace cuda {
Status attention(const AttentionArgs<float>& args, Stream stream);
Status attention_backward(const AttentionBackwardArgs<float>& args, Stream stream);
}  // namespace cuda

}  // namespace stillpoint::kernels
