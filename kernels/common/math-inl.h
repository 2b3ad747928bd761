// Vector building blocks of the SIMD files: rows with an incomplete last vector, and elementary
// functions that keep NaN and infinities. Included after <hwy/highway.h>, once per instruction set.
//
// Accuracy against the exact value, over the whole range of float: exp and log within 2 ulp,
// sigmoid and tanh within 3 (results below the smallest normal number may be 0).
#if defined(STILLPOINT_MATH_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef STILLPOINT_MATH_INL_H
#undef STILLPOINT_MATH_INL_H
#else
#define STILLPOINT_MATH_INL_H
#endif

#include <hwy/highway.h>

#include <cstdint>
#include <limits>
#include <type_traits>
#include <utility>

HWY_BEFORE_NAMESPACE();
namespace stillpoint::kernels::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using D = hn::ScalableTag<float>;
using V = hn::Vec<D>;

// ---- rows --------------------------------------------------------------------------------------

// How a row's vectors are read and written. Lanes past the end read as `fill`.
struct WholeVector {
  HWY_INLINE V load(const float* from, float = 0.f) const { return hn::LoadU(D(), from); }
  HWY_INLINE void store(V v, float* to) const { hn::StoreU(v, D(), to); }
};
struct PartVector {
  int64_t count;

#if HWY_TARGET <= HWY_AVX2  // masked lanes do not touch memory
  HWY_INLINE V load(const float* from, float fill = 0.f) const {
    const D d;
    const auto mask = hn::FirstN(d, static_cast<size_t>(count));
    return hn::IfThenElse(mask, hn::MaskedLoad(mask, d, from), hn::Set(d, fill));
  }
  HWY_INLINE void store(V v, float* to) const {
    const D d;
    hn::BlendedStore(v, hn::FirstN(d, static_cast<size_t>(count)), d, to);
  }
#else  // called: inlined, their loops would be half of what these instruction sets compile
  HWY_NOINLINE V load(const float* from, float fill = 0.f) const {
    const D d;
    HWY_ALIGN float lanes[HWY_MAX_BYTES / sizeof(float)];
    hn::Store(hn::Set(d, fill), d, lanes);
    for (int64_t k = 0; k < count; ++k) lanes[k] = from[k];
    return hn::Load(d, lanes);
  }
  HWY_NOINLINE void store(V v, float* to) const {
    const D d;
    HWY_ALIGN float lanes[HWY_MAX_BYTES / sizeof(float)] = {};
    hn::Store(v, d, lanes);
    for (int64_t k = 0; k < count; ++k) to[k] = lanes[k];
  }
#endif
};

// Calls body(io, k) for the vectors at k = 0, lanes, 2 lanes, ... of a row of n: `io` is
// WholeVector but for the last, incomplete one. The end of a row is thus computed as its middle is.
template <class Body>
HWY_INLINE void for_vectors(int64_t n, Body&& body) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(D()));
  int64_t k = 0;
  for (; k + lanes <= n; k += lanes) body(WholeVector{}, k);
  if (k < n) body(PartVector{n - k}, k);
}

// Asks for `n` floats, also where they will be written: they come from the third-level cache while
// something else is computed.
HWY_INLINE void prefetch(const float* x, int64_t n) {
  for (int64_t k = 0; k < n; k += 16) __builtin_prefetch(x + k);
}

// body(0), body(1), ... body(kN - 1), written out: GCC turns loops over arrays of vectors into
// memory traffic before it unrolls them.
template <int kN, class Body>
HWY_INLINE void each(Body&& body) {
  [&]<int... kV>(std::integer_sequence<int, kV...>) {
    (body(std::integral_constant<int, kV>()), ...);
  }
  (std::make_integer_sequence<int, kN>());
}

// Calls body(io, k, number of vectors) for blocks of kVectors vectors of [0, n), then of half as
// many, then for the single vectors that are left.
template <int kVectors, class Body>
HWY_INLINE void for_blocks(int64_t n, Body&& body) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(D()));
  constexpr int kHalf = kVectors / 2;
  int64_t k = 0;
  for (; k + kVectors * lanes <= n; k += kVectors * lanes)
    body(WholeVector{}, k, std::integral_constant<int, kVectors>());
  if constexpr (kHalf > 1)
    for (; k + kHalf * lanes <= n; k += kHalf * lanes)
      body(WholeVector{}, k, std::integral_constant<int, kHalf>());
  for_vectors(n - k,
              [&](auto io, int64_t rest) { body(io, k + rest, std::integral_constant<int, 1>()); });
}

HWY_INLINE float sum_lanes(V v) { return hn::GetLane(hn::SumOfLanes(D(), v)); }
// The largest lane; NaN if any is.
HWY_INLINE float max_lanes(V v) {
  const D d;
  if (!hn::AllFalse(d, hn::IsNaN(v))) return std::numeric_limits<float>::quiet_NaN();
  return hn::GetLane(hn::MaxOfLanes(d, v));
}
// The larger of two; NaN if either is.
HWY_INLINE V max_or_nan(V a, V b) {
  return hn::IfThenElse(hn::Or(hn::IsNaN(a), hn::Gt(a, b)), a, b);
}

// ---- elementary functions ----------------------------------------------------------------------

// exp(r) for x = n ln 2 + r with |r| <= ln(2)/2: r in two steps (Cody and Waite), its exponential
// by the Taylor series, whose remainder after r^7 is below 6e-9.
HWY_INLINE V exp_of_rest(V x, V n) {
  const D d;
  V r = hn::NegMulAdd(n, hn::Set(d, 0.693359375f), x);
  r = hn::MulAdd(n, hn::Set(d, 2.12194440e-4f), r);
  V p = hn::Set(d, 1.f / 5040);
  for (const float c : {1.f / 720, 1.f / 120, 1.f / 24, 1.f / 6, 1.f / 2, 1.f, 1.f})
    p = hn::MulAdd(p, r, hn::Set(d, c));
  return p;
}

HWY_INLINE V exp(V x) {
  const D d;
  const hn::RebindToSigned<D> di;
  // Past the bounds the result is 0 or infinity anyway, and n stays where halves of it are
  // exponents.
  const V bounded =
      hn::IfThenElse(hn::Lt(x, hn::Set(d, -104.f)), hn::Set(d, -104.f),
                     hn::IfThenElse(hn::Gt(x, hn::Set(d, 89.f)), hn::Set(d, 89.f), x));
  const V n = hn::Round(hn::Mul(bounded, hn::Set(d, 1.44269504f)));
  const V p = exp_of_rest(bounded, n);
  const auto exponent = hn::ConvertTo(di, n);
  const auto half = hn::ShiftRight<1>(exponent);
  const auto power = [&](auto e) {
    return hn::BitCast(d, hn::ShiftLeft<23>(hn::Add(e, hn::Set(di, 127))));
  };
  const V y = hn::Mul(hn::Mul(p, power(half)), power(hn::Sub(exponent, half)));
  return hn::IfThenElse(hn::IsNaN(x), x, y);
}

// exp for what is added to 1, where all below exp(-86) is alike: 2^n is a normal number, so that n
// can be added to an exponent; it lies in the last bits of a sum so large that its unit is 1.
// Infinity from 88 on.
HWY_INLINE V exp_beside_one(V x) {
  const D d;
  const hn::RebindToSigned<D> di;
  const V most = hn::Set(d, 88.f);
  const V bounded = hn::Max(hn::Set(d, -86.f), hn::Min(most, x));
  const V shift = hn::Set(d, 0x1.8p23f);
  const V shifted = hn::MulAdd(bounded, hn::Set(d, 1.44269504f), shift);
  const V n = hn::Sub(shifted, shift);
  const V p = exp_of_rest(bounded, n);
  const V y =
      hn::BitCast(d, hn::Add(hn::BitCast(di, p), hn::ShiftLeft<23>(hn::BitCast(di, shifted))));
  return hn::IfThenElse(hn::Lt(x, most), y, hn::Add(x, hn::Inf(d)));  // keeps NaN
}

// 1 / (1 + exp(-x)).
HWY_INLINE V sigmoid(V x) {
  const D d;
  const V one = hn::Set(d, 1.f);
  return hn::Div(one, hn::Add(one, exp_beside_one(hn::Neg(x))));
}

// Near 0 a quotient from Lambert's continued fraction, x (945 + 105 x^2 + x^4) / (945 + 420 x^2 +
// 15 x^4), whose relative error below 0.625 is 8e-10; elsewhere (1 - e) / (1 + e) with e = exp(-2
// |x|). One division serves both.
HWY_INLINE V tanh(V x) {
  const D d;
  const V a = hn::Abs(x), x2 = hn::Mul(x, x), one = hn::Set(d, 1.f);
  const V e = exp_beside_one(hn::Mul(a, hn::Set(d, -2.f)));
  const auto near = hn::Lt(a, hn::Set(d, 0.625f));
  const V top = hn::Mul(a, hn::MulAdd(x2, hn::Add(x2, hn::Set(d, 105.f)), hn::Set(d, 945.f)));
  const V bottom =
      hn::MulAdd(x2, hn::MulAdd(x2, hn::Set(d, 15.f), hn::Set(d, 420.f)), hn::Set(d, 945.f));
  const V y = hn::Div(hn::IfThenElse(near, top, hn::Sub(one, e)),
                      hn::IfThenElse(near, bottom, hn::Add(one, e)));
  return hn::CopySign(y, x);
}

// x = m 2^n with m in [sqrt(1/2), sqrt(2)); log(m) = 2 artanh(s) with s = (m - 1) / (m + 1), by its
// series to s^9 (remainder below 2e-9 relative). log(0) = -inf, of negative numbers NaN.
HWY_INLINE V log(V x) {
  const D d;
  const hn::RebindToSigned<D> di;
  const V inf = hn::Inf(d);
  const auto small = hn::Lt(x, hn::Set(d, std::numeric_limits<float>::min()));
  const V scaled = hn::IfThenElse(small, hn::Mul(x, hn::Set(d, 0x1p24f)), x);
  const auto bits = hn::BitCast(di, scaled);
  // Adding the distance from sqrt(1/2) to 1 carries into the exponent exactly where m would leave
  // its interval.
  const auto shifted = hn::Add(bits, hn::Set(di, 0x3f800000 - 0x3f3504f3));
  const auto exponent = hn::Sub(hn::ShiftRight<23>(shifted), hn::Set(di, 127));
  const V m = hn::BitCast(d, hn::Sub(bits, hn::ShiftLeft<23>(exponent)));
  const V n = hn::Sub(hn::ConvertTo(d, exponent), hn::IfThenElseZero(small, hn::Set(d, 24.f)));

  const V f = hn::Sub(m, hn::Set(d, 1.f));
  const V s = hn::Div(f, hn::Add(m, hn::Set(d, 1.f)));
  const V s2 = hn::Mul(s, s);
  V p = hn::Set(d, 2.f / 9);
  for (const float c : {2.f / 7, 2.f / 5, 2.f / 3}) p = hn::MulAdd(p, s2, hn::Set(d, c));
  // 2 s = f - s f: keeps the leading term exact.
  const V tail = hn::Mul(s, hn::MulAdd(p, s2, hn::Neg(f)));
  const V low = hn::MulAdd(n, hn::Set(d, -2.12194440e-4f), tail);
  V y = hn::MulAdd(n, hn::Set(d, 0.693359375f), hn::Add(low, f));
  y = hn::IfThenElse(hn::Eq(x, inf), inf, y);
  y = hn::IfThenElse(hn::Eq(x, hn::Zero(d)), hn::Neg(inf), y);
  const V nan = hn::Set(d, std::numeric_limits<float>::quiet_NaN());
  return hn::IfThenElse(hn::Ge(x, hn::Zero(d)), y, nan);
}

}  // namespace stillpoint::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // STILLPOINT_MATH_INL_H
