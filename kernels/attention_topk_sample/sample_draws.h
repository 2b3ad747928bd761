// What the backends share of the draws themselves: targets for draws with replacement, and what a
// row's results are once its keys have been picked.
#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/attention_topk_sample/attention_topk_sample.h"
#include "kernels/common/philox.h"

namespace stillpoint::kernels {

// floor(u total) for draw t of a row, u a 64-bit fraction; total is below 2^62.
STILLPOINT_HD inline uint64_t sample_target(const SampleShape& s, int64_t row, int64_t t,
                                            uint64_t total) {
  const uint64_t block =
      s.first_block + static_cast<uint64_t>(row * with_replacement_blocks(s.count) + t / 2);
  const PhiloxBlock b = philox4x32_10(s.seed, block, s.stream);
  const uint64_t high = b.v[2 * (t % 2)], low = b.v[2 * (t % 2) + 1];
  // The upper 64 bits of the 128 of (high 2^32 + low) total.
  const uint64_t a = total >> 32, c = total & 0xffffffffu;
  const uint64_t middle = high * c + ((low * c) >> 32);
  const uint64_t cross = low * a + (middle & 0xffffffffu);
  return high * a + (middle >> 32) + (cross >> 32);
}

// log(1 + exp x).
template <class T>
STILLPOINT_HD inline T log_one_plus(T x) {
  const T tail = std::log1p(std::exp(x > 0 ? -x : x));
  return x > 0 ? x + tail : tail;
}
// log(exp a + exp b).
template <class T>
STILLPOINT_HD inline T log_add(T a, T b) {
  const T high = a > b ? a : b, low = a > b ? b : a;
  return low == -static_cast<T>(INFINITY) ? high : high + log_one_plus(low - high);
}

// Fills a row's results from its picks (`found` of them, their indices and scores in place), the
// log of the sum over the keys not picked (with replacement: over all), and whether all was finite.
template <class T>
STILLPOINT_HD inline void finish_row(const AttentionTopkSampleArgs<T>& args, int64_t row,
                                     int64_t found, T log_rest, bool finite) {
  const T nan = static_cast<T>(NAN);
  const int64_t count = args.shape.count, first = row * count;
  T remaining = log_rest;
  for (int64_t t = count - 1; t >= 0; --t) {
    const int64_t at = first + t;
    if (t >= found || !finite) {
      args.indices[at] = -1;
      args.scores[at] = args.log_remaining[at] = 0;
      args.log_prob[at] = finite ? T{0} : nan;
      continue;
    }
    const T score = args.scores[at];
    if (args.shape.law == SampleLaw::with_replacement) {
      args.log_prob[at] = score - remaining;
    } else {
      // The same difference, from what others have instead: a probability near 1 keeps its digits.
      args.log_prob[at] = T{0} - log_one_plus(remaining - score);
      remaining = log_add(remaining, score);
    }
    args.log_remaining[at] = remaining;
  }
  args.log_rest[row] = finite ? log_rest : nan;
  args.log_sum[row] = finite ? remaining : nan;
}

}  // namespace stillpoint::kernels
