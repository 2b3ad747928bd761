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
#include <utility>

HWY_BEFORE_NAMESPACE();
namespace stillpoint::kernels::HWY_NAMESPACE {

// sum_k term(k), where term gives a vector of doubles for the floats at k, and tail the double of
// one k.
template <class Vector, class Tail>
HWY_INLINE double sum_in_double(int64_t n, Vector&& term, Tail&& tail) {
  namespace hn = hwy::HWY_NAMESPACE;
  const hn::ScalableTag<double> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  auto even = hn::Zero(d), odd = hn::Zero(d);  // two chains: an addition takes 4 cycles
  int64_t k = 0;
  for (; k + 2 * lanes <= n; k += 2 * lanes) {
    even = hn::Add(even, term(k));
    odd = hn::Add(odd, term(k + lanes));
  }
  double sum = hn::GetLane(hn::SumOfLanes(d, hn::Add(even, odd)));
  for (; k < n; ++k) sum += tail(k);
  return sum;
}

// The floats at p as doubles.
HWY_INLINE auto load_double(const float* p) {
  namespace hn = hwy::HWY_NAMESPACE;
  const hn::ScalableTag<double> d;
  return hn::PromoteTo(d, hn::LoadU(hn::Rebind<float, decltype(d)>(), p));
}

HWY_INLINE double dot_in_double(const float* a, const float* b, int64_t n) {
  namespace hn = hwy::HWY_NAMESPACE;
  return sum_in_double(
      n, [=](int64_t k) HWY_ATTR { return hn::Mul(load_double(a + k), load_double(b + k)); },
      [=](int64_t k) { return static_cast<double>(a[k]) * static_cast<double>(b[k]); });
}

// a b and a c, the same bits as of two calls of dot_in_double, in one pass over a.
HWY_INLINE std::pair<double, double> dots_in_double(const float* a, const float* b, const float* c,
                                                    int64_t n) {
  namespace hn = hwy::HWY_NAMESPACE;
  const hn::ScalableTag<double> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  auto even_b = hn::Zero(d), odd_b = hn::Zero(d), even_c = hn::Zero(d), odd_c = hn::Zero(d);
  int64_t k = 0;
  for (; k + 2 * lanes <= n; k += 2 * lanes) {
    const auto even = load_double(a + k), odd = load_double(a + k + lanes);
    even_b = hn::Add(even_b, hn::Mul(even, load_double(b + k)));
    odd_b = hn::Add(odd_b, hn::Mul(odd, load_double(b + k + lanes)));
    even_c = hn::Add(even_c, hn::Mul(even, load_double(c + k)));
    odd_c = hn::Add(odd_c, hn::Mul(odd, load_double(c + k + lanes)));
  }
  double with_b = hn::GetLane(hn::SumOfLanes(d, hn::Add(even_b, odd_b)));
  double with_c = hn::GetLane(hn::SumOfLanes(d, hn::Add(even_c, odd_c)));
  for (; k < n; ++k) {
    with_b += static_cast<double>(a[k]) * static_cast<double>(b[k]);
    with_c += static_cast<double>(a[k]) * static_cast<double>(c[k]);
  }
  return {with_b, with_c};
}

}  // namespace stillpoint::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // STILLPOINT_ROW_SUMS_INL_H
