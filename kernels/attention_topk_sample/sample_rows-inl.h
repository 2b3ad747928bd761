// One row's draws from blocks of its scores, on the CPU. Included after <hwy/highway.h>, once per
// instruction set.
#if defined(STILLPOINT_SAMPLE_ROWS_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef STILLPOINT_SAMPLE_ROWS_INL_H
#undef STILLPOINT_SAMPLE_ROWS_INL_H
#else
#define STILLPOINT_SAMPLE_ROWS_INL_H
#endif

#include <hwy/highway.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#include "kernels/attention/attention_blocks-inl.h"
#include "kernels/attention_topk_sample/sample_blocks.h"
#include "kernels/attention_topk_sample/sample_draws.h"
#include "kernels/common/exact-inl.h"

HWY_BEFORE_NAMESPACE();
namespace stillpoint::kernels::cpu::HWY_NAMESPACE {

// Of the scores given to it: the largest, and the sum of exp(score - max). The largest of all would
// not do: what few great scores leave over may be nothing beside it.
struct RowSum {
  float max = -kInf;
  float sum = 0.f;

  void raise(float score) {
    if (score == max) return;
    sum *= std::exp(max - score);
    max = score;
  }
  // A block's row. A NaN need not pass through the maximum: it reaches the sum.
  HWY_INLINE void add(const float* score) {
    const D d;
    const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
    V most = hn::Set(d, max);
    for (int64_t j = 0; j < kSampleKeys; j += lanes) most = hn::Max(hn::Load(d, score + j), most);
    raise(hn::GetLane(hn::MaxOfLanes(d, most)));
    const V shift = hn::Set(d, max == -kInf ? 0.f : max);
    V total = hn::Zero(d);
    for (int64_t j = 0; j < kSampleKeys; j += lanes)
      total = hn::Add(total, exp2(hn::Mul(hn::Sub(hn::Load(d, score + j), shift),
                                          hn::Set(d, static_cast<float>(kLog2E)))));
    sum += sum_lanes(total);
  }
  float log() const { return sum == 0.f ? -kInf : max + std::log(sum); }
  bool finite() const { return sum < kInf && max < kInf; }  // false for NaN too
};

// The largest perturbed scores so far; of equals, the earliest. Keys that pass the threshold wait
// unsorted until there are too many: few do, and most of those stay.
struct Largest {
  struct Key {
    float perturbed, score;
    int32_t index;

    bool operator<(const Key& other) const {  // comes before it
      return perturbed != other.perturbed ? perturbed > other.perturbed : index < other.index;
    }
  };
  int64_t count, found = 0;
  float threshold = -kInf;
  Key keys[2 * kSampleCount + kSampleKeys];

  bool finite() const { return found == 0 || keys[0].perturbed < kInf; }  // once finished

  // Leaves no more than `count`; those that leave go to the rest.
  HWY_INLINE void prune(RowSum& rest) {
    if (found <= count) return;
    std::nth_element(keys, keys + count - 1, keys + found);
    threshold = keys[count - 1].perturbed;
    while (found > count) {
      HWY_ALIGN float leaving[kSampleKeys];
      std::fill_n(leaving, kSampleKeys, -kInf);
      for (int64_t j = 0; j < kSampleKeys && found > count; ++j) leaving[j] = keys[--found].score;
      rest.add(leaving);
    }
  }

  // A block's row, whose first key is `first`; `noise` may be null. Keys taken become -inf in it.
  HWY_INLINE void add(float* row, const float* noise, int64_t first, RowSum& rest) {
    const D d;
    const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
    const V least = hn::Set(d, threshold);
    for (int64_t j = 0; j < kSampleKeys; j += lanes) {
      const V s = hn::Load(d, row + j);
      const V p = noise == nullptr ? s : hn::Add(s, hn::Load(d, noise + j));
      const auto above = hn::Gt(p, least);
      if (hn::AllFalse(d, above)) continue;
      uint8_t bytes[8] = {};
      hn::StoreMaskBits(d, above, bytes);
      uint64_t bits;
      std::memcpy(&bits, bytes, sizeof bits);
      for (; bits != 0; bits &= bits - 1) {
        const int64_t k = j + __builtin_ctzll(bits);
        const float pk = noise == nullptr ? row[k] : row[k] + noise[k];
        keys[found++] = {pk, row[k], static_cast<int32_t>(first + k)};
        row[k] = -kInf;
      }
    }
    rest.add(row);
    if (found > 2 * count) prune(rest);
  }
  // Sorts, largest first.
  HWY_INLINE void finish(RowSum& rest) {
    prune(rest);
    std::sort(keys, keys + found);
  }
};

// A row's draws with replacement: once the maximum is known, weights add up to a total, and then to
// each draw's target in turn.
struct Independent {
  uint64_t total = 0, passed = 0;
  int64_t found = 0, count = 0;
  uint64_t target[kSampleCount];

  HWY_INLINE uint64_t weights(const float* row, float max, int32_t* weight) const {
    const D d;
    HWY_ALIGN float below[kSampleKeys];
    for (int64_t j = 0; j < kSampleKeys; j += static_cast<int64_t>(hn::Lanes(d)))
      hn::Store(hn::Sub(hn::Load(d, row + j), hn::Set(d, max)), d, below + j);
    exact_weights(below, kSampleKeys, weight);
    uint64_t sum = 0;
    for (int64_t j = 0; j < kSampleKeys; ++j) sum += static_cast<uint64_t>(weight[j]);
    return sum;
  }
  void add(const float* row, float max) {
    HWY_ALIGN int32_t weight[kSampleKeys];
    total += weights(row, max, weight);
  }
  void aim(const SampleShape& s, int64_t row) {
    count = s.count;
    for (int64_t t = 0; t < count; ++t) target[t] = sample_target(s, row, t, total);
    std::sort(target, target + count);
  }
  void find(const float* row, float max, int64_t first, int32_t* index, float* score) {
    if (found == count) return;
    HWY_ALIGN int32_t weight[kSampleKeys];
    const uint64_t sum = weights(row, max, weight);
    uint64_t end = passed;
    for (int64_t j = 0; found < count && target[found] < passed + sum; ++j) {
      end += static_cast<uint64_t>(weight[j]);
      for (; found < count && target[found] < end; ++found) {
        index[found] = static_cast<int32_t>(first + j);
        score[found] = row[j];
      }
    }
    passed += sum;
  }
};

}  // namespace stillpoint::kernels::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // STILLPOINT_SAMPLE_ROWS_INL_H
