// attention_topk_sample: `count` keys for every query, drawn by the attention that it pays them,
// with s[i,j] = scale q_i . k_j and p[i,j] = exp s[i,j] / sum_l exp s[i,l] over the keys seen:
//
//   top               the largest scores, largest first
//   plackett_luce     without replacement, each draw by the probabilities of the keys that remain:
//                     the largest of s[i,j] + Gumbel noise, in order (Kool, van Hoof, Welling:
//                     "Stochastic beams and where to find them", arXiv 1903.06059)
//   with_replacement  independent draws by p, in the order of the keys
//
// Draw t of a row picks indices[i,t] with
//
//   log_prob[i,t] = s[i, indices[i,t]] - log_remaining[i,t]
//
// where log_remaining is the log of the sum of exp s over the keys not drawn before (with
// replacement, over all; top is scored like plackett_luce). It is added up from the keys that were
// not drawn, never by subtraction, so that it is exact where nearly everything has been drawn.
//
//   backward   with g = gradient of log_prob: ds[i,j] = sum_t g[i,t] d log_prob[i,t] / d s[i,j],
//              dq_i = scale sum_j ds[i,j] k_j, dk_j = scale sum_i ds[i,j] q_i
//
// Keys are streamed: besides q, k and the results there is no array over keys x queries.
//
// Random bits are words of Philox: plackett_luce takes word j % 4 of block first_block + row
// plackett_luce_blocks(keys) + j / 4 for key j of row b queries + i; with_replacement words 2 (t %
// 2) and the next of block first_block + row with_replacement_blocks(count) + t / 2 for draw t.
// What follows from them and the scores is exact (kernels/common/exact.h), so that backends that
// agree on the scores agree on the picks; equal perturbed scores go to the lowest key. Each backend
// computes its own scores, with an error of about e = eps width max_d |q_d k_d| scale. Picks can
// differ only where two scores (top) or two perturbed scores (plackett_luce) lie closer than 2 e,
// or (with_replacement) where a draw's 64 bits, as a fraction, lie within e / 2 of the chance of
// the first keys up to some j, besides 16 eps and keys 2^-30 of the weights (tested).
//
// A key is seen if key_mask is null or not 0 there; a score of -inf is never drawn. Where fewer
// than `count` keys can be drawn, the draws left over have index -1 and log_prob 0 (with
// replacement: where none can). A score of NaN or +inf makes its row's indices -1 and log_prob NaN.
// Results are the same bits for any thread count; outputs may not alias inputs.
//
// Cost with P = batch queries keys: forward 2 P width flops and P exponentials, logarithms twice
// and Philox words (with_replacement three times the products and exponentials instead); backward 6
// P width flops (CUDA 8) and P exponentials.
#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/common/portable.h"
#include "kernels/common/status.h"
#include "kernels/common/stream.h"

namespace stillpoint::kernels {

enum class SampleLaw : uint8_t { top, plackett_luce, with_replacement };

constexpr int64_t kSampleWidth = 128;  // the widest query
constexpr int64_t kSampleCount = 64;   // the most draws

STILLPOINT_HD constexpr int64_t plackett_luce_blocks(int64_t keys) { return (keys + 3) / 4; }
STILLPOINT_HD constexpr int64_t with_replacement_blocks(int64_t count) { return (count + 1) / 2; }

struct SampleShape {
  int64_t batch;
  int64_t queries;
  int64_t keys;
  int64_t width;  // 1 to kSampleWidth
  int64_t count;  // 1 to kSampleCount
  SampleLaw law;
  double scale;
  uint64_t seed, stream, first_block;
};

template <class T>
struct AttentionTopkSampleArgs {
  const T* q;               // [batch, queries, width]
  const T* k;               // [batch, keys, width]
  const int32_t* key_mask;  // [batch, keys], or null: every key is seen
  int32_t* indices;         // [batch, queries, count]
  T* log_prob;              // [batch, queries, count]
  T* scores;                // [batch, queries, count], 0 where the index is -1
  T* log_remaining;         // [batch, queries, count], 0 where the index is -1
  T* log_rest;              // [batch, queries]: of the keys that no draw removed
  T* log_sum;               // [batch, queries]: of all keys
  T* workspace;  // [attention_topk_sample_workspace(shape)] of cpu or reference; CUDA has none
  SampleShape shape;
};

template <class T>
struct AttentionTopkSampleBackwardArgs {
  const T* q;               // [batch, queries, width]
  const T* k;               // [batch, keys, width]
  const int32_t* key_mask;  // [batch, keys], or null
  const int32_t* indices;   // [batch, queries, count], all from the forward
  const T* scores;          // [batch, queries, count]
  const T* log_remaining;   // [batch, queries, count]
  const T* log_rest;        // [batch, queries]
  const T* g;               // [batch, queries, count]
  T* dq;                    // [batch, queries, width]
  T* dk;                    // [batch, keys, width]
  T* drawn;                 // [batch, queries, count]: scratch, see sample_row_gradient
  T* rest;                  // [batch, queries]: scratch
  T* workspace;  // cpu: [attention_topk_sample_backward_workspace(shape)], reference: as above
  SampleShape shape;
};

// The gradient of one row's scores in a form that streams: ds_j = -rest exp(s_j - log_rest), and
// where draw t picked j, drawn[t] instead (with replacement: drawn[t] besides, for every such t).
// Returns rest. No exponent is above 0.
template <class T>
STILLPOINT_HD inline T sample_row_gradient(SampleLaw law, int64_t count, const int32_t* indices,
                                           const T* scores, const T* log_remaining, T log_rest,
                                           const T* g, T* drawn) {
  T sum = 0;  // sum_{u <= t} g_u exp(log_remaining_t - log_remaining_u)
  for (int64_t t = 0; t < count && indices[t] >= 0; ++t) {
    if (law == SampleLaw::with_replacement) {
      sum += g[t];
      drawn[t] = g[t];
      continue;
    }
    if (t > 0) sum *= std::exp(log_remaining[t] - log_remaining[t - 1]);
    sum += g[t];
    drawn[t] = g[t] - std::exp(scores[t] - log_remaining[t]) * sum;
    if (t + 1 == count || indices[t + 1] < 0) return sum * std::exp(log_rest - log_remaining[t]);
  }
  return sum;
}

namespace cpu {
int64_t attention_topk_sample_workspace(const SampleShape& shape);
int64_t attention_topk_sample_backward_workspace(const SampleShape& shape);
void attention_topk_sample(const AttentionTopkSampleArgs<float>& args);
void attention_topk_sample_backward(const AttentionTopkSampleBackwardArgs<float>& args);
}  // namespace cpu

namespace cuda {
Status attention_topk_sample(const AttentionTopkSampleArgs<float>& args, Stream stream);
Status attention_topk_sample_backward(const AttentionTopkSampleBackwardArgs<float>& args,
                                      Stream stream);
}  // namespace cuda

}  // namespace stillpoint::kernels
