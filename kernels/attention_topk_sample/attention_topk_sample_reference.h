// attention_topk_sample with all scores of a row at once. In double it is the truth that the tests
// hold the backends to; the noise is the same as theirs.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <vector>

#include "kernels/attention_topk_sample/attention_topk_sample.h"
#include "kernels/attention_topk_sample/sample_draws.h"
#include "kernels/common/exact.h"

namespace stillpoint::kernels::reference {

// Scores of row i of sample b; -inf where a key is not seen.
template <class Args>
auto sample_scores(const Args& args, int64_t b, int64_t i) {
  using T = std::remove_cvref_t<decltype(*args.q)>;
  const SampleShape& s = args.shape;
  std::vector<T> score(static_cast<size_t>(s.keys), -std::numeric_limits<T>::infinity());
  for (int64_t j = 0; j < s.keys; ++j) {
    if (args.key_mask && args.key_mask[b * s.keys + j] == 0) continue;
    const T* q = args.q + (b * s.queries + i) * s.width;
    const T* k = args.k + (b * s.keys + j) * s.width;
    score[static_cast<size_t>(j)] =
        static_cast<T>(s.scale) * std::inner_product(q, q + s.width, k, T{0});
  }
  return score;
}

// log sum exp over the scores that `keep` says.
template <class T, class Keep>
T sample_log_sum(const std::vector<T>& score, Keep&& keep) {
  T max = -std::numeric_limits<T>::infinity(), sum = 0;
  for (size_t j = 0; j < score.size(); ++j)
    if (keep(j)) max = std::max(max, score[j]);
  if (std::isinf(max)) return max;
  for (size_t j = 0; j < score.size(); ++j)
    if (keep(j)) sum += std::exp(score[j] - max);
  return max + std::log(sum);
}

// The keys without replacement, in order. Ranked as every backend ranks them, in float.
template <class T>
std::vector<int32_t> sample_largest(const SampleShape& s, int64_t row,
                                    const std::vector<T>& score) {
  std::vector<float> perturbed(score.begin(), score.end());
  if (s.law == SampleLaw::plackett_luce)
    for (int64_t j = 0; j < s.keys; ++j) {
      const uint64_t block =
          s.first_block + static_cast<uint64_t>(row * plackett_luce_blocks(s.keys) + j / 4);
      perturbed[static_cast<size_t>(j)] +=
          exact::gumbel(philox4x32_10(s.seed, block, s.stream).v[j % 4]);
    }
  std::vector<int32_t> order;
  for (int32_t j = 0; j < s.keys; ++j)
    if (perturbed[static_cast<size_t>(j)] > -std::numeric_limits<float>::infinity())
      order.push_back(j);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    return perturbed[static_cast<size_t>(a)] > perturbed[static_cast<size_t>(b)];
  });
  order.resize(std::min(order.size(), static_cast<size_t>(s.count)));
  return order;
}

// The keys with replacement, in the order of the keys.
template <class T>
std::vector<int32_t> sample_independent(const SampleShape& s, int64_t row,
                                        const std::vector<T>& score) {
  const T max = *std::max_element(score.begin(), score.end());
  std::vector<uint64_t> end;  // of each key's stretch of the total
  uint64_t total = 0;
  for (const T x : score) {
    total += static_cast<uint64_t>(std::exp(x - max) * T{0x1p30});
    end.push_back(total);
  }
  std::vector<int32_t> picks;
  for (int64_t t = 0; t < s.count; ++t)
    picks.push_back(static_cast<int32_t>(
        std::upper_bound(end.begin(), end.end(), sample_target(s, row, t, total)) - end.begin()));
  std::sort(picks.begin(), picks.end());
  return picks;
}

template <class T>
void attention_topk_sample(const AttentionTopkSampleArgs<T>& args) {
  const SampleShape& s = args.shape;
  for (int64_t row = 0; row < s.batch * s.queries; ++row) {
    const std::vector<T> score = sample_scores(args, row / s.queries, row % s.queries);
    const bool finite = std::all_of(score.begin(), score.end(), [](T x) {
      return x < std::numeric_limits<T>::infinity();  // false for NaN too
    });
    std::vector<int32_t> picks;
    T log_rest = sample_log_sum(score, [](size_t) { return true; });
    if (finite && s.law == SampleLaw::with_replacement && !std::isinf(log_rest)) {
      picks = sample_independent(s, row, score);
    } else if (finite && s.law != SampleLaw::with_replacement) {
      picks = sample_largest(s, row, score);
      log_rest = sample_log_sum(score, [&](size_t j) {
        return std::find(picks.begin(), picks.end(), static_cast<int32_t>(j)) == picks.end();
      });
    }
    for (size_t t = 0; t < picks.size(); ++t) {
      args.indices[row * s.count + static_cast<int64_t>(t)] = picks[t];
      args.scores[row * s.count + static_cast<int64_t>(t)] = score[static_cast<size_t>(picks[t])];
    }
    finish_row(args, row, static_cast<int64_t>(picks.size()), log_rest, finite);
  }
}

template <class T>
void attention_topk_sample_backward(const AttentionTopkSampleBackwardArgs<T>& args) {
  const SampleShape& s = args.shape;
  std::fill_n(args.dq, s.batch * s.queries * s.width, T{0});
  std::fill_n(args.dk, s.batch * s.keys * s.width, T{0});
  for (int64_t row = 0; row < s.batch * s.queries; ++row) {
    const int64_t b = row / s.queries, first = row * s.count;
    const std::vector<T> score = sample_scores(args, b, row % s.queries);
    const int32_t* picks = args.indices + first;
    T* drawn = args.drawn + first;
    args.rest[row] =
        sample_row_gradient(s.law, s.count, picks, args.scores + first, args.log_remaining + first,
                            args.log_rest[row], args.g + first, drawn);
    for (int64_t j = 0; j < s.keys; ++j) {
      const T x = score[static_cast<size_t>(j)];
      if (x == -std::numeric_limits<T>::infinity()) continue;
      T ds = -args.rest[row] * std::exp(x - args.log_rest[row]);
      bool replaced = s.law == SampleLaw::with_replacement;
      for (int64_t t = 0; t < s.count; ++t) {
        if (picks[t] != j) continue;
        ds = replaced ? ds + drawn[t] : drawn[t];
        replaced = true;
      }
      ds *= static_cast<T>(s.scale);
      for (int64_t d = 0; d < s.width; ++d) {
        args.dq[row * s.width + d] += ds * args.k[(b * s.keys + j) * s.width + d];
        args.dk[(b * s.keys + j) * s.width + d] += ds * args.q[row * s.width + d];
      }
    }
  }
}

}  // namespace stillpoint::kernels::reference
