// k_subset: `draws` sets S of `count` keys for every query, in whatever order, with probability
//
//   p(S) = prod_{j in S} w_j / e(count),   w_j = exp scores_j,
//   e(c) = sum over the sets of c keys of the products of their w
//
// the conditional Bernoulli law: coins of odds w_j, given that `count` of them show heads. Of all
// laws of sets with the same inclusion probabilities it has the largest entropy (Chen, Dempster,
// Liu: "Weighted finite population sampling to maximize entropy", Biometrika 1994).
//
// A common factor of all w cancels; it is chosen such that about `count` heads are expected, and
// everything is a probability: with coins p_j = w_j / (1 + w_j) and R_j(c) the chance of c heads
// among the keys j, j + 1, ...,
//
//   R_j(c) = (1 - p_j) R_{j+1}(c) + p_j R_{j+1}(c - 1)
//
// Sums of positive numbers throughout, none of which matters and underflows. Exact draws: with c
// keys to go, key j is taken if u_j < p_j R_{j+1}(c - 1) / R_j(c) (Chen, Liu: "Statistical
// applications of the Poisson-binomial and conditional Bernoulli distributions", Statistica Sinica
// 1997). Picks ascend.
//
//   log_prob = log p(S)
//   slope_j  = d log_prob / d scores_j = [j in S] - p(j in S)
//
// with p(j in S) = p_j sum_c L_j(c) R_{j+1}(count - 1 - c) / R_0(count), L_j(c) the chance of c
// heads before j: the score of the SFESS estimator (Wijk, Vinuesa, Azizpour: "Revisiting score
// function estimators for k-subset sampling", ICML 2024).
//
// u_j are 24 bits of word j % 4 of the Philox block first_block + row k_subset_blocks(keys) + j /
// 4, row being that of the draw's results: a batch of as many copies draws the same. Backends round
// differently: a pick can differ only where u_j lies within rounding of its bound, 1e-5 with room
// to spare (tested).
//
// A key is seen if key_mask is null or not 0 there; a score of -inf is never drawn. Where fewer
// than `count` keys can be drawn, all are, and the other indices are -1. A score of NaN or +inf
// makes its row's indices -1 and the rest of its results NaN. Rows are independent: the same bits
// for any thread count. Outputs may not alias inputs.
//
// Cost per query and key: 6 count flops and some 10 logistic functions, and little more for every
// draw; keys (count + 2) numbers of scratch for every query in work. Scores and slopes are arrays
// over keys x queries: this law does not stream.
#pragma once

#include <cstdint>

#include "kernels/common/portable.h"
#include "kernels/common/status.h"
#include "kernels/common/stream.h"

namespace stillpoint::kernels {

STILLPOINT_HD constexpr int64_t k_subset_blocks(int64_t keys) { return (keys + 3) / 4; }

struct KSubsetShape {
  int64_t batch, queries, keys;
  int64_t count;  // 1 or more
  uint64_t seed, stream, first_block;
  int64_t draws = 1;  // 1 or more

  STILLPOINT_HD int64_t rows() const { return batch * queries; }
  // Of results: draw `of` a query's row.
  STILLPOINT_HD int64_t result(int64_t row, int64_t of) const {
    return (row / queries * draws + of) * queries + row % queries;
  }
};

template <class T>
struct KSubsetArgs {
  const T* scores;          // [batch, queries, keys]
  const int32_t* key_mask;  // [batch, keys], or null: every key is seen
  int32_t* indices;         // [batch, draws, queries, count]
  T* log_prob;              // [batch, draws, queries]
  T* log_normaliser;        // [batch, draws, queries]: log e of as many keys as were drawn
  T* slope;                 // [batch, draws, queries, keys]
  T* workspace;             // [k_subset_workspace(shape)] of cpu, cuda or reference
  KSubsetShape shape;
};

namespace cpu {
int64_t k_subset_workspace(const KSubsetShape& shape);  // for the threads that there are now
void k_subset(const KSubsetArgs<float>& args);
}  // namespace cpu

namespace cuda {
int64_t k_subset_workspace(const KSubsetShape& shape);
Status k_subset(const KSubsetArgs<float>& args, Stream stream);
}  // namespace cuda

}  // namespace stillpoint::kernels
