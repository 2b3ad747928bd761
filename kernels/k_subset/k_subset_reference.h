// k_subset by sums of products, as logs. In double it is the truth that the tests hold the backends
// to; the uniform numbers are the same as theirs.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>

#include "kernels/attention_topk_sample/sample_draws.h"
#include "kernels/k_subset/k_subset.h"
#include "kernels/k_subset/k_subset_row.h"

namespace stillpoint::kernels::reference {

// Elements of the workspace: log e(c) of the keys from j on, for every j; of those before j.
inline int64_t k_subset_workspace(const KSubsetShape& s) { return (s.keys + 2) * (s.count + 1); }

template <class T>
class KSubsetSums {
 public:
  KSubsetSums(const KSubsetRow<T>& row, T* workspace)
      : row_(row), width_(row.wanted + 1), from_(workspace), before_(workspace) {
    before_ += (row.keys + 1) * width_;
    std::fill_n(from(row.keys), width_, kNone);
    from(row.keys)[0] = 0;
    for (int64_t j = row.keys - 1; j >= 0; --j) {
      std::copy_n(from(j + 1), width_, from(j));
      add(j, from(j));
    }
  }

  T log_sum() const { return from_[row_.wanted]; }
  // The probability that key j is taken where `open` are to be taken from it and those after it.
  T take(int64_t j, int64_t open) {
    return open == 0 ? T{0} : std::exp(score(j) + from(j + 1)[open - 1] - from(j)[open]);
  }
  // Calls body(j, log of the probability that j is in the set) for all keys in order.
  template <class Body>
  void for_inclusions(Body body) {
    std::fill_n(before_, width_, kNone);
    before_[0] = 0;
    for (int64_t j = 0; j < row_.keys; ++j) {
      T sum = kNone;
      for (int64_t c = 0; c < row_.wanted; ++c)
        sum = log_add(sum, before_[c] + from(j + 1)[row_.wanted - 1 - c]);
      body(j, score(j) + sum - log_sum());
      add(j, before_);
    }
  }

 private:
  static constexpr T kNone = -std::numeric_limits<T>::infinity();

  T* from(int64_t j) { return from_ + j * width_; }
  T score(int64_t j) const { return row_.drawable(j) ? row_.score[j] : kNone; }
  void add(int64_t j, T* sums) const {
    for (int64_t c = width_ - 1; c > 0; --c) sums[c] = log_add(sums[c], score(j) + sums[c - 1]);
  }

  const KSubsetRow<T>& row_;
  int64_t width_;
  T *from_, *before_;
};

template <class T>
void k_subset(const KSubsetArgs<T>& args) {
  const KSubsetShape& s = args.shape;
  for (int64_t number = 0; number < s.rows(); ++number) {
    const KSubsetRow<T> row(args, number);
    std::optional<KSubsetSums<T>> sums;
    const auto prepare = [&] { sums.emplace(row, args.workspace); };
    k_subset_draws(args, row, number, prepare, [&](int64_t result) {
      int32_t* picks = args.indices + result * s.count;
      T* slope = args.slope + result * s.keys;
      sums->for_inclusions(
          [&](int64_t j, T log_inclusion) { slope[j] = -std::exp(log_inclusion); });
      int64_t found = 0;
      T log_product = 0;
      for (int64_t j = 0; j < s.keys; ++j) {
        const T u = static_cast<T>(k_subset_uniform(k_subset_words(s, result, j), j));
        if (!(u < sums->take(j, row.wanted - found))) continue;
        log_product += row.score[j];
        slope[j] += 1;
        picks[found++] = static_cast<int32_t>(j);
      }
      std::fill(picks + found, picks + s.count, -1);
      args.log_prob[result] = log_product - sums->log_sum();
      args.log_normaliser[result] = sums->log_sum();
    });
  }
}

}  // namespace stillpoint::kernels::reference
