// Sums over the members of factors, one row of the pattern at a time. Included after
// <hwy/highway.h>, once per instruction set.
#if defined(STILLPOINT_FACTOR_SUM_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef STILLPOINT_FACTOR_SUM_INL_H
#undef STILLPOINT_FACTOR_SUM_INL_H
#else
#define STILLPOINT_FACTOR_SUM_INL_H
#endif

#include "kernels/common/math-inl.h"
#include "kernels/factor_sum/factor_sum.h"

HWY_BEFORE_NAMESPACE();
namespace stillpoint::kernels::HWY_NAMESPACE {

// kDegree members, whose addresses stay in registers along the row: a fifth faster with 3 members
// and 96 channels; with 9 the next form is as good.
template <int kDegree>
HWY_INLINE void sum_row(const float* HWY_RESTRICT x, int64_t channels,
                        const int32_t* HWY_RESTRICT members, int64_t, float* HWY_RESTRICT out) {
  const float* member[kDegree];
  for (int m = 0; m < kDegree; ++m) member[m] = x + members[m] * channels;
  for_vectors(channels, [&](auto io, int64_t k) HWY_ATTR {
    V sum = hn::Zero(D());
    for (int m = 0; m < kDegree; ++m) sum = hn::Add(sum, io.load(member[m] + k));
    io.store(sum, out + k);
  });
}

// Any number of members, added to start(io, k): up to four vectors of channels at a time stay in
// registers.
template <class Start>
HWY_INLINE void add_members(const float* HWY_RESTRICT x, int64_t channels,
                            const int32_t* HWY_RESTRICT members, int64_t degree, const Start& start,
                            float* HWY_RESTRICT out) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(D()));
  for_blocks<4>(channels, [&](auto io, int64_t k, auto vectors) HWY_ATTR {
    V sum[vectors.value];
    each<vectors.value>([&](auto v) HWY_ATTR { sum[v] = start(io, k + v * lanes); });
    for (int64_t m = 0; m < degree; ++m) {
      const float* member = x + members[m] * channels + k;
      each<vectors.value>([&](auto v)
                              HWY_ATTR { sum[v] = hn::Add(sum[v], io.load(member + v * lanes)); });
    }
    each<vectors.value>([&](auto v) HWY_ATTR { io.store(sum[v], out + k + v * lanes); });
  });
}
template <>
HWY_INLINE void sum_row<0>(const float* HWY_RESTRICT x, int64_t channels,
                           const int32_t* HWY_RESTRICT members, int64_t degree,
                           float* HWY_RESTRICT out) {
  add_members(
      x, channels, members, degree, [](auto, int64_t) HWY_ATTR { return hn::Zero(D()); }, out);
}

template <int kDegree>
HWY_INLINE void sum_rows_of(const FactorSumArgs<float>& args, int64_t first, int64_t last) {
  const CsrView& p = args.pattern;
  for (int64_t r = first; r < last; ++r) {
    const int64_t f = r % p.rows;
    sum_row<kDegree>(args.x + r / p.rows * p.cols * args.channels, args.channels,
                     p.indices + p.offsets[f], p.offsets[f + 1] - p.offsets[f],
                     args.out + r * args.channels);
  }
}

// Rows [first, last) of all samples, counted through.
HWY_INLINE void sum_rows(const FactorSumArgs<float>& args, int64_t first, int64_t last) {
  switch (args.pattern.degree) {
    case 2:
      return sum_rows_of<2>(args, first, last);
    case 3:
      return sum_rows_of<3>(args, first, last);
    case 4:
      return sum_rows_of<4>(args, first, last);
    default:
      return sum_rows_of<0>(args, first, last);
  }
}

}  // namespace stillpoint::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // STILLPOINT_FACTOR_SUM_INL_H
