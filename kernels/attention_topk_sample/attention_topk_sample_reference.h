// attention_topk_sample with all scores of a row at once, in the workspace. In double it is the
// truth that the tests hold the backends to; the noise is the same as theirs.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "kernels/attention_topk_sample/attention_topk_sample.h"
#include "kernels/attention_topk_sample/sample_draws.h"
#include "kernels/common/exact.h"

namespace stillpoint::kernels::reference {

// Elements of the workspace: a row's scores, and what they are ranked or drawn by.
inline int64_t attention_topk_sample_workspace(const SampleShape& s) { return 2 * s.keys; }

// Scores of a row; -inf where a key is not seen.
template <class Args, class T>
void sample_scores(const Args& args, int64_t row, T* score) {
  const SampleShape& s = args.shape;
  const int64_t first = row / s.queries * s.keys;  // of the sample's keys
  for (int64_t j = 0; j < s.keys; ++j) {
    T dot = 0;
    for (int64_t d = 0; d < s.width; ++d)
      dot += args.q[row * s.width + d] * args.k[(first + j) * s.width + d];
    const bool seen = args.key_mask == nullptr || args.key_mask[first + j] != 0;
    score[j] = seen ? static_cast<T>(s.scale) * dot : -std::numeric_limits<T>::infinity();
  }
}

inline bool sample_picked(const int32_t* picks, int64_t found, int64_t j) {
  return std::find(picks, picks + found, static_cast<int32_t>(j)) != picks + found;
}

// log sum exp over the scores that are not among the picks.
template <class T>
T sample_log_sum(const T* score, int64_t keys, const int32_t* picks, int64_t found) {
  T max = -std::numeric_limits<T>::infinity(), sum = 0;
  for (int64_t j = 0; j < keys; ++j)
    if (!sample_picked(picks, found, j)) max = std::max(max, score[j]);
  if (std::isinf(max)) return max;
  for (int64_t j = 0; j < keys; ++j)
    if (!sample_picked(picks, found, j)) sum += std::exp(score[j] - max);
  return max + std::log(sum);
}

// Picks without replacement, in order, and returns how many. Ranked as every backend ranks, in
// float.
template <class T>
int64_t sample_largest(const SampleShape& s, int64_t row, const T* score, T* perturbed,
                       int32_t* picks) {
  for (int64_t j = 0; j < s.keys; ++j) {
    auto p = static_cast<float>(score[j]);
    if (s.law == SampleLaw::plackett_luce) {
      const uint64_t block =
          s.first_block + static_cast<uint64_t>(row * plackett_luce_blocks(s.keys) + j / 4);
      p += exact::gumbel(philox4x32_10(s.seed, block, s.stream).v[j % 4]);
    }
    perturbed[j] = p;
  }
  int64_t found = 0;
  for (; found < s.count; ++found) {
    const T* best = std::max_element(perturbed, perturbed + s.keys);  // the first of equals
    if (*best == -std::numeric_limits<T>::infinity()) break;
    picks[found] = static_cast<int32_t>(best - perturbed);
    perturbed[picks[found]] = -std::numeric_limits<T>::infinity();
  }
  return found;
}

// Picks with replacement, in the order of the keys. `end` holds where each key's stretch of the
// total ends: integers below 2^53, which double holds.
template <class T>
int64_t sample_independent(const SampleShape& s, int64_t row, const T* score, T* end,
                           int32_t* picks) {
  const T max = *std::max_element(score, score + s.keys);
  T total = 0;
  for (int64_t j = 0; j < s.keys; ++j)
    end[j] = total += std::floor(std::exp(score[j] - max) * T{0x1p30});
  for (int64_t t = 0; t < s.count; ++t) {
    const auto target = static_cast<T>(sample_target(s, row, t, static_cast<uint64_t>(total)));
    picks[t] = static_cast<int32_t>(std::upper_bound(end, end + s.keys, target) - end);
  }
  std::sort(picks, picks + s.count);
  return s.count;
}

template <class T>
void attention_topk_sample(const AttentionTopkSampleArgs<T>& args) {
  const SampleShape& s = args.shape;
  T* score = args.workspace;
  T* ranks = args.workspace + s.keys;
  for (int64_t row = 0; row < s.batch * s.queries; ++row) {
    sample_scores(args, row, score);
    const bool finite = std::all_of(score, score + s.keys, [](T x) {
      return x < std::numeric_limits<T>::infinity();  // false for NaN too
    });
    int32_t* picks = args.indices + row * s.count;
    int64_t found = 0;
    T log_rest = sample_log_sum(score, s.keys, picks, 0);
    if (finite && s.law == SampleLaw::with_replacement && !std::isinf(log_rest)) {
      found = sample_independent(s, row, score, ranks, picks);
    } else if (finite && s.law != SampleLaw::with_replacement) {
      found = sample_largest(s, row, score, ranks, picks);
      log_rest = sample_log_sum(score, s.keys, picks, found);
    }
    for (int64_t t = 0; t < found; ++t) args.scores[row * s.count + t] = score[picks[t]];
    finish_row(args, row, found, log_rest, finite);
  }
}

template <class T>
void attention_topk_sample_backward(const AttentionTopkSampleBackwardArgs<T>& args) {
  const SampleShape& s = args.shape;
  T* score = args.workspace;
  std::fill_n(args.dq, s.batch * s.queries * s.width, T{0});
  std::fill_n(args.dk, s.batch * s.keys * s.width, T{0});
  for (int64_t row = 0; row < s.batch * s.queries; ++row) {
    const int64_t first = row * s.count, keys = row / s.queries * s.keys;
    sample_scores(args, row, score);
    const int32_t* picks = args.indices + first;
    T* drawn = args.drawn + first;
    args.rest[row] =
        sample_row_gradient(s.law, s.count, picks, args.scores + first, args.log_remaining + first,
                            args.log_rest[row], args.g + first, drawn);
    for (int64_t j = 0; j < s.keys; ++j) {
      if (score[j] == -std::numeric_limits<T>::infinity()) continue;
      T ds = -args.rest[row] * std::exp(score[j] - args.log_rest[row]);
      for (int64_t t = 0; t < s.count; ++t)
        if (picks[t] == j) ds = s.law == SampleLaw::with_replacement ? ds + drawn[t] : drawn[t];
      ds *= static_cast<T>(s.scale);
      for (int64_t d = 0; d < s.width; ++d) {
        args.dq[row * s.width + d] += ds * args.k[(keys + j) * s.width + d];
        args.dk[(keys + j) * s.width + d] += ds * args.q[row * s.width + d];
      }
    }
  }
}

}  // namespace stillpoint::kernels::reference
