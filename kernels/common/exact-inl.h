// exact.h in vectors, and Philox: the same bits, many at a time. Included after <hwy/highway.h>,
// once per instruction set. Those without a fused multiply-add go through exact.h lane by lane.
#if defined(STILLPOINT_EXACT_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef STILLPOINT_EXACT_INL_H
#undef STILLPOINT_EXACT_INL_H
#else
#define STILLPOINT_EXACT_INL_H
#endif

#include <hwy/highway.h>

#include <cstdint>

#include "kernels/common/exact.h"
#include "kernels/common/math-inl.h"
#include "kernels/common/philox.h"

HWY_BEFORE_NAMESPACE();
namespace stillpoint::kernels::HWY_NAMESPACE {

using DU = hn::Repartition<uint32_t, D>;
using VU = hn::Vec<DU>;

#undef STILLPOINT_EXACT_VECTORS
#if HWY_TARGET <= HWY_AVX2 || (HWY_ARCH_ARM_A64 && HWY_TARGET != HWY_SCALAR)
#define STILLPOINT_EXACT_VECTORS 1
#else
#define STILLPOINT_EXACT_VECTORS 0
#endif

#if STILLPOINT_EXACT_VECTORS

HWY_INLINE V exact_log_from(V n, V f) {
  const D d;
  const V s = hn::Div(f, hn::Add(hn::Set(d, 2.f), f));
  const V s2 = hn::Mul(s, s);
  V p = hn::Set(d, 2.f / 9);
  for (const float c : {2.f / 7, 2.f / 5, 2.f / 3}) p = hn::MulAdd(p, s2, hn::Set(d, c));
  const V tail = hn::Mul(s, hn::MulSub(p, s2, f));
  const V low = hn::MulAdd(n, hn::Set(d, -2.12194440e-4f), tail);
  return hn::MulAdd(n, hn::Set(d, 0.693359375f), hn::Add(low, f));
}

struct LogParts {
  V n, f;
};
HWY_INLINE LogParts exact_log_parts(V x) {
  const D d;
  const hn::RebindToSigned<D> di;
  const auto bits = hn::BitCast(di, x);
  const auto exponent = hn::Sub(
      hn::ShiftRight<23>(hn::Add(bits, hn::Set(di, 0x3f800000 - 0x3f3504f3))), hn::Set(di, 127));
  const V m = hn::BitCast(d, hn::Sub(bits, hn::ShiftLeft<23>(exponent)));
  return {hn::ConvertTo(d, exponent), hn::Sub(m, hn::Set(d, 1.f))};
}

HWY_INLINE V exact_gumbel(VU bits) {
  const D d;
  const DU du;
  const hn::RebindToSigned<D> di;
  // Compared as signed numbers, both moved by 2^31.
  const auto flip = hn::Set(du, 0x80000000u);
  const auto near = hn::Lt(hn::BitCast(di, hn::Xor(bits, flip)),
                           hn::Set(di, static_cast<int32_t>(0x4af00000u ^ 0x80000000u)));
  const auto near_f = hn::RebindMask(d, near);
  const VU chosen = hn::IfThenElse(hn::RebindMask(du, near), bits, hn::Not(bits));
  const V high = hn::ConvertTo(d, hn::BitCast(di, hn::ShiftRight<16>(chosen)));
  const V low = hn::ConvertTo(d, hn::BitCast(di, hn::And(chosen, hn::Set(du, 0xffffu))));
  const V x = hn::Mul(hn::MulAdd(high, hn::Set(d, 65536.f), hn::Add(low, hn::Set(d, 0.5f))),
                      hn::Set(d, 0x1p-32f));
  const LogParts parts = exact_log_parts(x);
  const V e = exact_log_from(hn::IfThenZeroElse(near_f, parts.n),
                             hn::IfThenElse(near_f, hn::Neg(x), parts.f));
  const LogParts outer = exact_log_parts(hn::Neg(e));
  return hn::Neg(exact_log_from(outer.n, outer.f));
}

// Words of Philox blocks: out[4 c + w] is word w of block first + c, for as many blocks as a vector
// has lanes. The low half of the counters must not run over within them.
HWY_INLINE void philox_words(uint64_t key, uint64_t first, uint64_t high, uint32_t* out) {
  const DU du;
  const auto mul_wide = [&](VU a, uint32_t by, VU& hi, VU& lo) {
    const VU m = hn::Set(du, by);
    const VU even = hn::BitCast(du, hn::MulEven(a, m));
    const VU odd = hn::BitCast(du, hn::MulEven(hn::DupOdd(a), m));
    lo = hn::OddEven(hn::DupEven(odd), even);
    hi = hn::OddEven(odd, hn::DupOdd(even));
  };
  VU c0 = hn::Add(hn::Iota(du, 0), hn::Set(du, static_cast<uint32_t>(first)));
  VU c1 = hn::Set(du, static_cast<uint32_t>(first >> 32));
  VU c2 = hn::Set(du, static_cast<uint32_t>(high));
  VU c3 = hn::Set(du, static_cast<uint32_t>(high >> 32));
  uint32_t k0 = static_cast<uint32_t>(key), k1 = static_cast<uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u) {
    VU hi0, lo0, hi1, lo1;
    mul_wide(c0, 0xD2511F53u, hi0, lo0);
    mul_wide(c2, 0xCD9E8D57u, hi1, lo1);
    c0 = hn::Xor(hn::Xor(hi1, c1), hn::Set(du, k0));
    c2 = hn::Xor(hn::Xor(hi0, c3), hn::Set(du, k1));
    c1 = lo1;
    c3 = lo0;
  }
  hn::StoreInterleaved4(c0, c1, c2, c3, du, out);
}

#endif  // STILLPOINT_EXACT_VECTORS

// noise[j] = the Gumbel of word j of the Philox blocks that begin at `first`, for n words, a
// multiple of four times the lanes of the widest vectors. `noise` is aligned.
inline void gumbel_noise(uint64_t key, uint64_t first, uint64_t high, int64_t n, float* noise) {
#if STILLPOINT_EXACT_VECTORS
  const D d;
  const DU du;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  HWY_ALIGN uint32_t words[HWY_MAX_BYTES];
  for (int64_t j = 0; j < n; j += 4 * lanes) {
    const uint64_t block = first + static_cast<uint64_t>(j) / 4;
    if (static_cast<uint32_t>(block) > UINT32_MAX - static_cast<uint32_t>(lanes)) {
      for (int64_t k = 0; k < lanes; ++k) {
        const PhiloxBlock b = philox4x32_10(key, block + static_cast<uint64_t>(k), high);
        for (int64_t w = 0; w < 4; ++w) words[4 * k + w] = b.v[w];
      }
    } else {
      philox_words(key, block, high, words);
    }
    for (int64_t k = 0; k < 4 * lanes; k += lanes)
      hn::Store(exact_gumbel(hn::Load(du, words + k)), d, noise + j + k);
  }
#else
  for (int64_t j = 0; j < n; j += 4) {
    const PhiloxBlock b = philox4x32_10(key, first + static_cast<uint64_t>(j) / 4, high);
    for (int64_t w = 0; w < 4; ++w) noise[j + w] = exact::gumbel(b.v[w]);
  }
#endif
}

// exact::weight of n differences, a multiple of the lanes; `x` and `out` are aligned.
inline void exact_weights(const float* x, int64_t n, int32_t* out) {
#if STILLPOINT_EXACT_VECTORS
  const D d;
  const hn::RebindToSigned<D> di;
  for (int64_t j = 0; j < n; j += static_cast<int64_t>(hn::Lanes(d))) {
    const V low = hn::Set(d, -24.f), v = hn::Load(d, x + j);
    const V bounded = hn::IfThenElse(hn::Lt(v, low), low, v);
    const V k = hn::Round(hn::Mul(bounded, hn::Set(d, 1.44269504f)));
    V r = hn::NegMulAdd(k, hn::Set(d, 0.693359375f), bounded);
    r = hn::MulAdd(k, hn::Set(d, 2.12194440e-4f), r);
    V p = hn::Set(d, 1.f / 5040);
    for (const float c : {1.f / 720, 1.f / 120, 1.f / 24, 1.f / 6, 1.f / 2, 1.f, 1.f})
      p = hn::MulAdd(p, r, hn::Set(d, c));
    const auto power = hn::ShiftLeft<23>(hn::Add(hn::ConvertTo(di, k), hn::Set(di, 157)));
    hn::Store(hn::ConvertTo(di, hn::Mul(p, hn::BitCast(d, power))), di, out + j);
  }
#else
  for (int64_t j = 0; j < n; ++j) out[j] = exact::weight(x[j]);
#endif
}

}  // namespace stillpoint::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // STILLPOINT_EXACT_INL_H
