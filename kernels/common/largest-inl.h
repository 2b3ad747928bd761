// Finding the largest of many numbers, on the CPU: as integers in their order, of which the least
// that stays is bisected. Included after <hwy/highway.h>, once per instruction set.
#if defined(STILLPOINT_LARGEST_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef STILLPOINT_LARGEST_INL_H
#undef STILLPOINT_LARGEST_INL_H
#else
#define STILLPOINT_LARGEST_INL_H
#endif

#include <hwy/highway.h>

#include <cstdint>
#include <cstring>
#include <limits>

#include "kernels/common/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace stillpoint::kernels::HWY_NAMESPACE {

using DI = hn::RebindToSigned<D>;
using VI = hn::Vec<DI>;

constexpr int32_t kNoOrder = std::numeric_limits<int32_t>::min();  // below that of any number

// Integers in the order of the numbers, -0 as 0. A NaN lies beyond the infinity of its sign.
HWY_INLINE VI order_of(V x) {
  const DI di;
  const VI bits = hn::BitCast(di, hn::Add(x, hn::Zero(D())));  // adding 0 makes -0 equal to it
  return hn::Xor(bits, hn::And(hn::ShiftRight<31>(bits), hn::Set(di, 0x7fffffff)));
}
HWY_INLINE float number_of(int32_t order) {
  const int32_t bits = order ^ ((order >> 31) & 0x7fffffff);
  float number;
  std::memcpy(&number, &bits, sizeof number);
  return number;
}

// Of n integers (aligned; n is a multiple of the lanes), of which more than `count` are above
// kNoOrder and the greatest is `greatest`: returns one that `count` of them reach, after the last
// of equals beyond `count` have become kNoOrder.
HWY_INLINE int32_t keep_largest(int32_t* order, int64_t n, int64_t count, int32_t greatest) {
  const DI di;
  const auto at_least = [&](int32_t least) {
    size_t there = 0;
    for (int64_t j = 0; j < n; j += static_cast<int64_t>(hn::Lanes(di)))
      there += hn::CountTrue(di, hn::Gt(hn::Load(di, order + j), hn::Set(di, least - 1)));
    return static_cast<int64_t>(there);
  };
  // Bisected: std::nth_element took a third of the time of attention_topk_sample, mispredicting.
  // `count` or more are at least `low`, fewer at least `high`.
  int64_t low = kNoOrder, high = int64_t{greatest} + 1, staying = n;
  while (staying != count && high - low > 1) {
    const int64_t middle = low + (high - low) / 2;
    const int64_t there = at_least(static_cast<int32_t>(middle));
    if (there >= count) {
      low = middle;
      staying = there;
    } else {
      high = middle;
    }
  }
  const auto least = static_cast<int32_t>(low);
  for (int64_t j = n - 1; staying > count; --j) {
    if (order[j] != least) continue;
    order[j] = kNoOrder;
    --staying;
  }
  return least;
}

}  // namespace stillpoint::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // STILLPOINT_LARGEST_INL_H
