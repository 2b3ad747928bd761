// What attention's passes on the CPU share: copies of rows, who sees whom, and 2^x. Included after
// <hwy/highway.h>, once per instruction set.
#if defined(STILLPOINT_ATTENTION_BLOCKS_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef STILLPOINT_ATTENTION_BLOCKS_INL_H
#undef STILLPOINT_ATTENTION_BLOCKS_INL_H
#else
#define STILLPOINT_ATTENTION_BLOCKS_INL_H
#endif

#include <hwy/highway.h>

#include <algorithm>
#include <cstdint>
#include <limits>

#include "kernels/attention/attention_blocks.h"
#include "kernels/common/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace stillpoint::kernels::cpu::HWY_NAMESPACE {

using namespace kernels::HWY_NAMESPACE;  // vectors and their functions
using namespace attention_blocks;

constexpr double kLog2E = 1.4426950408889634, kLn2 = 0.69314718055994531;
constexpr float kInf = std::numeric_limits<float>::infinity();

constexpr int64_t kLanes = HWY_MAX_BYTES / sizeof(float);  // of the widest vectors

// ---- copies ------------------------------------------------------------------------------------

// Rows [begin, end) of one head to rows of padded(width), times `factor`; zeros where the mask says
// so and past the end, up to `count` rows.
inline void copy_rows(const HeadRows& from, int64_t begin, int64_t end, int64_t count, float factor,
                      float* to) {
  const int64_t stride = padded(from.width);
  const V f = hn::Set(D(), factor);
  for (int64_t j = 0; j < count; ++j, to += stride) {
    const bool there = begin + j < end && from.seen(begin + j);
    std::fill(to + (there ? from.width : 0), to + stride, 0.f);
    if (!there) continue;
    const float* row = from.row(begin + j);
    for_vectors(from.width,
                [&](auto io, int64_t d) { io.store(hn::Mul(f, io.load(row + d)), to + d); });
  }
}

// The same, transposed: [width, keys]. By 16 rows, so that whole lines are written.
inline void copy_transposed(const HeadRows& from, int64_t begin, int64_t end, int64_t keys,
                            float* to) {
  constexpr int64_t kGroup = 16;
  static constexpr float kZeros[kAttentionWidth] = {};
  for (int64_t j = 0; j < keys; j += kGroup) {
    const float* row[kGroup];
    for (int64_t k = 0; k < kGroup; ++k) {
      const int64_t i = begin + j + k;
      row[k] = i < end && from.seen(i) ? from.row(i) : kZeros;
    }
    for (int64_t d = 0; d < from.width; ++d)
      for (int64_t k = 0; k < kGroup; ++k) to[d * keys + j + k] = row[k][d];
  }
}

// Adds what the panels of one head hold of its queries' gradient, in order.
inline void add_panels(const float* dq, const AttentionShape& s, float* to) {
  const V scale = hn::Set(D(), static_cast<float>(s.scale));
  for (int64_t i = 0; i < s.queries; ++i, to += s.heads * s.width) {
    for_vectors(s.width, [&](auto io, int64_t d) {
      V sum = hn::Zero(D());
      for (int64_t p = 0; p < panels(s); ++p)
        sum = hn::Add(sum, hn::LoadU(D(), dq + p * query_array(s) + i * padded(s.width) + d));
      io.store(hn::Mul(sum, scale), to + d);
    });
  }
}

// ---- masks -------------------------------------------------------------------------------------

// Which keys of a block a query sees: a prefix of it, less those in the mask.
struct Seen {
  const int32_t* mask;  // of the block's first key, or null
  int64_t keys;         // of the block that exist

  HWY_INLINE hn::Mask<D> hidden(int64_t j, int64_t count) const {
    const D d;
    const hn::RebindToSigned<D> di;
    const auto past = hn::Not(hn::FirstN(d, static_cast<size_t>(std::max<int64_t>(0, count - j))));
    if (mask == nullptr || j >= keys) return past;
    HWY_ALIGN int32_t m[HWY_MAX_BYTES / sizeof(int32_t)] = {};
    const int64_t there = std::min<int64_t>(keys - j, static_cast<int64_t>(hn::Lanes(d)));
    for (int64_t k = 0; k < there; ++k) m[k] = mask[j + k];
    return hn::Or(past, hn::RebindMask(d, hn::Eq(hn::Load(di, m), hn::Zero(di))));
  }
};

inline Seen seen_in_block(const int32_t* mask, const AttentionShape& s, int64_t head,
                          int64_t first) {
  return {mask == nullptr ? nullptr : mask + head / s.heads * s.keys + first, s.keys - first};
}

// How many keys of the block at `first` query i may see by their number.
HWY_INLINE int64_t seen_keys(const AttentionShape& s, int64_t i, int64_t first) {
  const int64_t end = s.mask == AttentionMask::causal ? std::min(s.keys, i + 1) : s.keys;
  return std::clamp<int64_t>(end - first, 0, kKeys);
}

// ---- exponentials ------------------------------------------------------------------------------

// 2^x for x up to 1, 0 below -126: what a difference of scores in units of log 2 needs. 2^n times
// the Taylor series of 2^r, |r| <= 1/2, whose remainder after r^7 is below 6e-9.
HWY_INLINE V exp2(V x) {
  const D d;
  const hn::RebindToSigned<D> di;
  const auto tiny = hn::Lt(x, hn::Set(d, -126.f));
  const V n = hn::Round(hn::IfThenElse(tiny, hn::Set(d, -126.f), x));
  const V r = hn::Sub(x, n);
  V p = hn::Set(d, 1.5252734e-5f);
  for (const float c :
       {1.5403530e-4f, 1.3333558e-3f, 9.6181291e-3f, 5.5504109e-2f, 0.24022651f, 0.69314718f, 1.f})
    p = hn::MulAdd(p, r, hn::Set(d, c));
  const auto power = hn::ShiftLeft<23>(hn::Add(hn::ConvertTo(di, n), hn::Set(di, 127)));
  return hn::IfThenZeroElse(tiny, hn::Mul(p, hn::BitCast(d, power)));
}

}  // namespace stillpoint::kernels::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // STILLPOINT_ATTENTION_BLOCKS_INL_H
