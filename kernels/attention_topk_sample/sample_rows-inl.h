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

#include "kernels/attention/attention_blocks-inl.h"
#include "kernels/attention_topk_sample/sample_blocks.h"
#include "kernels/attention_topk_sample/sample_draws.h"
#include "kernels/common/exact-inl.h"
#include "kernels/common/largest-inl.h"

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
    if (!hn::AllTrue(d, hn::Eq(most, hn::Set(d, max)))) raise(hn::GetLane(hn::MaxOfLanes(d, most)));
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

// Writes the lanes in the mask side by side, and anything behind them up to a vector's length. On
// AVX-512 hn::CompressStore, which writes those alone, made draws of the largest 3 % slower.
template <class Vector, class Mask, class T>
HWY_INLINE void pack(Vector v, Mask mask, T* to) {
  hn::StoreU(hn::Compress(v, mask), hn::DFromV<Vector>(), to);
}

// The largest perturbed scores so far; of equals, the earliest. Keys that pass the threshold wait,
// by index and otherwise unsorted, until there are too many: few do, and most of those stay.
struct Largest {
  static constexpr int64_t kMost = 2 * kSampleCount + kSampleKeys;

  int64_t count, found = 0;
  float threshold = -kInf;
  // With room for a whole vector behind them.
  HWY_ALIGN float perturbed[kMost + kLanes], score[kMost + kLanes];
  HWY_ALIGN int32_t index[kMost + kLanes];
  SampleKey keys[kSampleCount];  // once finished: `found` of them, largest first

  bool finite() const { return found == 0 || keys[0].perturbed < kInf; }  // once finished

  // Leaves no more than `count`; those that leave go to the rest.
  HWY_INLINE void prune(RowSum& rest) {
    if (found <= count) return;
    const D d;
    const DI di;
    const int64_t lanes = static_cast<int64_t>(hn::Lanes(d)), end = round_up(found, lanes);
    std::fill(perturbed + found, perturbed + end, -kInf);
    std::fill(score + found, score + end, -kInf);
    HWY_ALIGN int32_t order[kMost + kLanes];  // integers in the order of the scores
    VI greatest = hn::Set(di, kNoOrder);
    for (int64_t j = 0; j < end; j += lanes) {
      const VI key = order_of(hn::Load(d, perturbed + j));
      hn::Store(key, di, order + j);
      greatest = hn::Max(greatest, key);
    }
    const int32_t least =
        keep_largest(order, end, count, hn::GetLane(hn::MaxOfLanes(di, greatest)));
    threshold = number_of(least);
    HWY_ALIGN float leaving[kMost + kLanes];
    int64_t kept = 0, left = 0;
    for (int64_t j = 0; j < end; j += lanes) {
      const auto stays = hn::Gt(hn::Load(di, order + j), hn::Set(di, least - 1));
      const V p = hn::Load(d, perturbed + j), x = hn::Load(d, score + j);
      const auto i = hn::Load(di, index + j);
      const auto stays_here = hn::RebindMask(d, stays);
      pack(x, hn::Not(stays_here), leaving + left);
      pack(p, stays_here, perturbed + kept);
      pack(x, stays_here, score + kept);
      pack(i, stays, index + kept);
      const auto here = static_cast<int64_t>(hn::CountTrue(di, stays));
      kept += here;
      left += lanes - here;
    }
    found = kept;
    std::fill(leaving + left, leaving + round_up(left, kSampleKeys), -kInf);
    for (int64_t j = 0; j < left; j += kSampleKeys) rest.add(leaving + j);
  }

  // A block's row, whose first key is `first`; `noise` may be null. Keys taken become -inf in it.
  HWY_INLINE void add(float* row, const float* noise, int64_t first, RowSum& rest) {
    const D d;
    const DI di;
    const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
    const V least = hn::Set(d, threshold);
    for (int64_t j = 0; j < kSampleKeys; j += lanes) {
      const V s = hn::Load(d, row + j);
      const V p = noise == nullptr ? s : hn::Add(s, hn::Load(d, noise + j));
      const auto above = hn::Gt(p, least);
      if (hn::AllFalse(d, above)) continue;
      pack(p, above, perturbed + found);
      pack(s, above, score + found);
      pack(hn::Iota(di, static_cast<int32_t>(first + j)), hn::RebindMask(di, above), index + found);
      found += static_cast<int64_t>(hn::CountTrue(d, above));
      hn::Store(hn::IfThenElse(above, hn::Set(d, -kInf), s), d, row + j);
    }
    rest.add(row);
    if (found > 2 * count) prune(rest);
  }
  HWY_INLINE void finish(RowSum& rest) {
    prune(rest);
    for (int64_t t = 0; t < found; ++t) keys[t] = {perturbed[t], score[t], index[t]};
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
