// set_score: log of the probability that draws without replacement (Plackett and Luce's law) give a
// set in whatever order, from the log_prob that attention_topk_sample gives one order of it. With
// a[t] = exp(score of pick t) / sum of exp(scores of the keys never picked),
//
//   out = log of the integral over x of f(x),  f(x) = exp(x - e^x) prod_t (1 - exp(-a[t] e^x))
//
// which is the chance that the last of the picks' exponential clocks rings before the first of the
// others' (Kool, van Hoof, Welling: "Estimating gradients for discrete random variables by sampling
// without replacement", arXiv 2002.06043, whose u is exp(-e^x)). There are count! orders to sum
// over otherwise.
//
//   log a[t] = log_prob[t] - sum_{u >= t} log(1 - exp log_prob[u])
//   backward   h[t] = mean under f / out of d log(1 - exp(-a[t] e^x)) / d log a[t]
//              d[t] = g (h[t] + exp log_prob[t] / (1 - exp log_prob[t]) sum_{u <= t} h[u])
//
// The integral is the trapezoid rule's. f and its continuation are smooth and fall off at least
// like e^x to the left and faster than any power to the right, for which the rule's error shrinks
// like exp(-c / step): relative, below 1e-7 for any weights and up to 64 picks (tested).
//
// A log_prob of 0 is a pick of the last key left, or none (index -1): the set is certain so far as
// it goes, and d[t] is 0. log_prob of -inf or NaN makes its row NaN. Picks more certain than 1 -
// 1e-9 are taken for certain in the gradient. Rows are independent: the same bits for any thread
// count. Outputs may not alias inputs.
//
// Cost per row and pick: 224 points of 2 exponentials, a logarithm and 20 flops; backward twice
// that.
#pragma once

#include <cstdint>

#include "kernels/common/status.h"
#include "kernels/common/stream.h"

namespace stillpoint::kernels {

constexpr int64_t kSetCount = 64;  // the most picks

template <class T>
struct SetScoreArgs {
  const T* log_prob;  // [rows, count]
  T* out;             // [rows]
  int64_t rows;
  int64_t count;  // 0 to kSetCount
};

template <class T>
struct SetScoreBackwardArgs {
  const T* log_prob;  // [rows, count]
  const T* g;         // [rows]
  T* d;               // [rows, count]
  int64_t rows;
  int64_t count;
};

namespace cpu {
void set_score(const SetScoreArgs<float>& args);
void set_score_backward(const SetScoreBackwardArgs<float>& args);
}  // namespace cpu

namespace cuda {
Status set_score(const SetScoreArgs<float>& args, Stream stream);
Status set_score_backward(const SetScoreBackwardArgs<float>& args, Stream stream);
}  // namespace cuda

}  // namespace stillpoint::kernels
