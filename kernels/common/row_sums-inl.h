// Sums over a row of floats in double: what solvers and norms of residuals want, whose terms
// cancel. Included after <hwy/highway.h>, once per instruction set.
#if defined(STILLPOINT_ROW_SUMS_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef STILLPOINT_ROW_SUMS_INL_H
#undef STILLPOINT_ROW_SUMS_INL_H
#else
#define STILLPOINT_ROW_SUMS_INL_H
#endif

#include <hwy/highway.h>

#include <cstdint>

HWY_BEFORE_NAMESPACE();
namespace stillpoint::kernels::HWY_NAMESPACE {

// The floats at p as doubles.
HWY_INLINE auto load_double(const float* p) {
  namespace hn = hwy::HWY_NAMESPACE;
  const hn::ScalableTag<double> d;
  return hn::PromoteTo(d, hn::LoadU(hn::Rebind<float, decltype(d)>(), p));
}

HWY_INLINE double dot_in_double(const float* a, const float* b, int64_t n) {
  namespace hn = hwy::HWY_NAMESPACE;
  const hn::ScalableTag<double> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  auto even = hn::Zero(d), odd = hn::Zero(d);  // two chains: an addition takes 4 cycles
  int64_t k = 0;
  for (; k + 2 * lanes <= n; k += 2 * lanes) {
    even = hn::Add(even, hn::Mul(load_double(a + k), load_double(b + k)));
    odd = hn::Add(odd, hn::Mul(load_double(a + k + lanes), load_double(b + k + lanes)));
  }
  double sum = hn::GetLane(hn::SumOfLanes(d, hn::Add(even, odd)));
  for (; k < n; ++k) sum += static_cast<double>(a[k]) * static_cast<double>(b[k]);
  return sum;
}

}  // namespace stillpoint::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // STILLPOINT_ROW_SUMS_INL_H
