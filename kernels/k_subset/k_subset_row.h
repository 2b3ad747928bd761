// What the backends of k_subset share: which keys of a row can be drawn, the factor that makes
// coins of their weights, and the uniform numbers.
#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/common/philox.h"
#include "kernels/common/portable.h"
#include "kernels/k_subset/k_subset.h"

namespace stillpoint::kernels {

template <class T>
struct KSubsetRow {
  const T* score;
  const int32_t* mask;  // or null
  int64_t keys;
  int64_t wanted = 0;     // how many keys are drawn
  T most = 0, least = 0;  // of the scores that can be drawn
  bool finite = true;

  STILLPOINT_HD KSubsetRow(const KSubsetArgs<T>& args, int64_t row)
      : score(args.scores + row * args.shape.keys),
        mask(args.key_mask == nullptr ? nullptr
                                      : args.key_mask + row / args.shape.queries * args.shape.keys),
        keys(args.shape.keys) {
    for (int64_t j = 0; j < keys; ++j) {
      if (!drawable(j)) continue;
      finite = finite && score[j] < static_cast<T>(INFINITY);  // false for NaN too
      most = wanted == 0 || score[j] > most ? score[j] : most;
      least = wanted == 0 || score[j] < least ? score[j] : least;
      ++wanted;
    }
    if (wanted > args.shape.count) wanted = args.shape.count;
  }

  STILLPOINT_HD bool drawable(int64_t j) const {
    return (mask == nullptr || mask[j] != 0) && score[j] != -static_cast<T>(INFINITY);
  }
};

// The log of the factor: where expected(shift), the number of heads expected, is within 1/2 of what
// is wanted, so that the chance of as many is not small.
template <class T, class Expected>
STILLPOINT_HD inline T k_subset_shift(const KSubsetRow<T>& row, Expected expected) {
  if (row.wanted == 0) return 0;
  const T target = static_cast<T>(row.wanted), end = T{20} - row.least;
  // Too few heads are expected, and enough. Were all scores the largest, the first would do.
  T low = -row.most;
  if (row.wanted < row.keys) low += std::log(target / static_cast<T>(row.keys - row.wanted));
  T high = low;
  for (T step = 1; high < end && expected(high) < target; step *= 2) {
    low = high;
    high = high + step < end ? high + step : end;
  }
  for (int n = 0; n < 48; ++n) {
    const T middle = (low + high) / 2, heads = expected(middle);
    if (std::abs(heads - target) < T{0.5}) return middle;
    (heads < target ? low : high) = middle;
  }
  return (low + high) / 2;
}

// The words of key and of the others that have the same key / 4.
STILLPOINT_HD inline PhiloxBlock k_subset_words(const KSubsetShape& s, int64_t result,
                                                int64_t key) {
  const uint64_t block =
      s.first_block + static_cast<uint64_t>(result * k_subset_blocks(s.keys) + key / 4);
  return philox4x32_10(s.seed, block, s.stream);
}
STILLPOINT_HD inline float k_subset_uniform(const PhiloxBlock& words, int64_t key) {
  const uint32_t low = key % 2 == 0 ? words.v[0] : words.v[1];
  const uint32_t high = key % 2 == 0 ? words.v[2] : words.v[3];
  return uniform_from_bits(key % 4 < 2 ? low : high);
}

// Of a row whose scores are not finite.
template <class T>
STILLPOINT_HD inline void k_subset_not_finite(const KSubsetArgs<T>& args, int64_t result) {
  const KSubsetShape& s = args.shape;
  const T nan = static_cast<T>(NAN);
  for (int64_t t = 0; t < s.count; ++t) args.indices[result * s.count + t] = -1;
  for (int64_t j = 0; j < s.keys; ++j) args.slope[result * s.keys + j] = nan;
  args.log_prob[result] = args.log_normaliser[result] = nan;
}

// The results of all draws of a row: prepare() makes what they share, draw(result) one of them.
template <class T, class Prepare, class Draw>
STILLPOINT_HD inline void k_subset_draws(const KSubsetArgs<T>& args, const KSubsetRow<T>& row,
                                         int64_t number, Prepare prepare, Draw draw) {
  if (row.finite) prepare();
  for (int64_t of = 0; of < args.shape.draws; ++of) {
    const int64_t result = args.shape.result(number, of);
    if (row.finite)
      draw(result);
    else
      k_subset_not_finite(args, result);
  }
}

}  // namespace stillpoint::kernels
