// message_sum on vectors: one row of each of its directions, for what walks along a graph
// (message_sum_cpu.cpp, refine_cpu.cpp). Included after <hwy/highway.h>, once per instruction set.
// Rows of a and c start `stride` elements apart, rows of g `g_stride`; pointers to a single row
// point at its first channel, the others at that channel of row 0.
#if defined(STILLPOINT_MESSAGE_SUM_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef STILLPOINT_MESSAGE_SUM_INL_H
#undef STILLPOINT_MESSAGE_SUM_INL_H
#else
#define STILLPOINT_MESSAGE_SUM_INL_H
#endif

#include <hwy/highway.h>

#include <cstdint>

#include "kernels/common/csr.h"
#include "kernels/common/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace stillpoint::kernels::HWY_NAMESPACE {

using Count = hn::Vec<hn::RebindToSigned<D>>;
using Mask = hn::Mask<D>;

// Vectors of channels that a row works on at a time: enough sums to hide the latency of an
// addition, and no more than 16 registers hold.
constexpr int kForwardVectors = 3;
constexpr int kBackwardVectors = 2;  // 32 channels of 81 rows of a and g are 20 KB

// 1, unknown to the compiler: x * 1 + y must stay a fused multiply-add. It is exact, and Zen cores
// run it on other ports than additions and maxima, so that dealing the additions out to both kinds
// keeps all ports busy: 1.5 cycles a vector instead of 2.
inline const volatile float kOne = 1.f;

template <bool kFused>
HWY_INLINE V add(V x, V y, V one) {
  return kFused ? hn::MulAdd(x, one, y) : hn::Add(x, y);
}

// max(0, m) that keeps NaN: x86's maximum returns its second operand where they do not compare.
HWY_INLINE V relu(V m) {
  const V zero = hn::Zero(D());
#if HWY_ARCH_X86 && HWY_TARGET <= HWY_SSSE3
  return hn::Max(zero, m);
#else
  return hn::IfThenZeroElse(hn::Lt(m, zero), m);
#endif
}

// For finite numbers a + c > 0 exactly if -a < c: rounding keeps the sign, and small differences
// are denormal, not zero. Where the sum is NaN, both are false.
HWY_INLINE Mask active(V a, V c) { return hn::Lt(hn::Neg(a), c); }

// sum + x where the mask is set.
HWY_INLINE V add_where(Mask m, V sum, V x) {
#if HWY_TARGET <= HWY_AVX3  // one masked addition
  return hn::IfThenElse(m, hn::Add(sum, x), sum);
#else
  return hn::Add(sum, hn::IfThenElseZero(m, x));
#endif
}

HWY_INLINE Count count_where(Mask m, Count count) {
  const hn::RebindToSigned<D> di;
  return hn::Sub(count, hn::BitCast(di, hn::VecFromMask(D(), m)));  // set lanes are -1
}

struct Row {
  const int32_t* begin;
  const int32_t* end;
};
HWY_INLINE Row row_of(const CsrView& p, int64_t i) {
  return {p.indices + p.offsets[i], p.indices + p.offsets[i + 1]};
}

// ---- rows --------------------------------------------------------------------------------------

template <int kN, class Io>
HWY_INLINE void sum_row(Io io, const float* HWY_RESTRICT a, const float* HWY_RESTRICT c,
                        int64_t stride, Row row, V one, float* HWY_RESTRICT out) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(D()));
  V av[kN], sum[kN];
  each<kN>([&](auto v) {
    av[v] = io.load(a + v * lanes);
    sum[v] = hn::Zero(D());
  });
  const auto step = [&]<bool kOdd>(const float* cj) {
    each<kN>([&](auto v) {
      constexpr bool kFused = (v % 2 == 1) != kOdd;
      sum[v] = add<kFused>(relu(add<true>(io.load(cj + v * lanes), av[v], one)), sum[v], one);
    });
  };
  const int32_t* j = row.begin;
  for (; j + 2 <= row.end; j += 2) {
    step.template operator()<false>(c + j[0] * stride);
    step.template operator()<true>(c + j[1] * stride);
  }
  if (j != row.end) step.template operator()<false>(c + j[0] * stride);
  each<kN>([&](auto v) { io.store(sum[v], out + v * lanes); });
}

template <int kN, class Io>
HWY_INLINE void count_row(Io io, const float* HWY_RESTRICT a, const float* HWY_RESTRICT c,
                          const float* HWY_RESTRICT g, int64_t stride, Row row,
                          float* HWY_RESTRICT da) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(D()));
  V minus_a[kN];
  Count count[kN];
  each<kN>([&](auto v) {
    minus_a[v] = hn::Neg(io.load(a + v * lanes));
    count[v] = hn::Zero(hn::RebindToSigned<D>());
  });
  for (const int32_t* j = row.begin; j != row.end; ++j) {
    const float* cj = c + *j * stride;
    each<kN>([&](auto v) {
      count[v] = count_where(hn::Lt(minus_a[v], io.load(cj + v * lanes)), count[v]);
    });
  }
  each<kN>([&](auto v) {
    io.store(hn::Mul(io.load(g + v * lanes), hn::ConvertTo(D(), count[v])), da + v * lanes);
  });
}

// row: the rows of `a` that have this row of `c` as a neighbour.
template <int kN, class Io>
HWY_INLINE void pull_row(Io io, const float* HWY_RESTRICT a, const float* HWY_RESTRICT c,
                         const float* HWY_RESTRICT g, int64_t stride, int64_t g_stride, Row row,
                         float* HWY_RESTRICT dc) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(D()));
  V minus_c[kN], sum[kN];
  each<kN>([&](auto v) {
    minus_c[v] = hn::Neg(io.load(c + v * lanes));
    sum[v] = hn::Zero(D());
  });
  for (const int32_t* i = row.begin; i != row.end; ++i) {
    const int64_t at = *i * stride, g_at = *i * g_stride;
    each<kN>([&](auto v) {
      sum[v] = add_where(hn::Lt(minus_c[v], io.load(a + at + v * lanes)), sum[v],
                         io.load(g + g_at + v * lanes));
    });
  }
  each<kN>([&](auto v) { io.store(sum[v], dc + v * lanes); });
}

// Row i of a symmetric pattern, in which who listens to a row is whom it listens to.
template <int kN, class Io>
HWY_INLINE void count_and_pull_row(Io io, const float* HWY_RESTRICT a, const float* HWY_RESTRICT c,
                                   const float* HWY_RESTRICT g, int64_t stride, int64_t g_stride,
                                   int64_t i, Row row, float* HWY_RESTRICT da,
                                   float* HWY_RESTRICT dc) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(D()));
  const int64_t here = i * stride;
  V minus_a[kN], minus_c[kN], sum[kN];
  Count count[kN];
  each<kN>([&](auto v) {
    minus_a[v] = hn::Neg(io.load(a + here + v * lanes));
    minus_c[v] = hn::Neg(io.load(c + here + v * lanes));
    sum[v] = hn::Zero(D());
    count[v] = hn::Zero(hn::RebindToSigned<D>());
  });
  for (const int32_t* j = row.begin; j != row.end; ++j) {
    const int64_t there = *j * stride, g_there = *j * g_stride;
    each<kN>([&](auto v) {
      const int64_t at = there + v * lanes;
      count[v] = count_where(hn::Lt(minus_a[v], io.load(c + at)), count[v]);
      sum[v] =
          add_where(hn::Lt(minus_c[v], io.load(a + at)), sum[v], io.load(g + g_there + v * lanes));
    });
  }
  each<kN>([&](auto v) {
    const V gv = io.load(g + i * g_stride + v * lanes);
    io.store(hn::Mul(gv, hn::ConvertTo(D(), count[v])), da + v * lanes);
    io.store(sum[v], dc + v * lanes);
  });
}

}  // namespace stillpoint::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // STILLPOINT_MESSAGE_SUM_INL_H
