// random_fill on the CPU: words by integer code, whose independent blocks overlap in the pipeline;
// the rest in vectors.
#include "kernels/random_fill/random_fill.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/random_fill/random_fill_cpu.cpp"
#include <hwy/foreach_target.h>  // IWYU pragma: keep
#include <hwy/highway.h>

#include <algorithm>

#include "kernels/common/math-inl.h"
#include "kernels/common/parallel.h"
#include "kernels/common/philox.h"

HWY_BEFORE_NAMESPACE();
namespace stillpoint::kernels::cpu::HWY_NAMESPACE {
namespace {

using namespace kernels::HWY_NAMESPACE;  // vectors and their functions

constexpr int64_t kBatch = 256;  // elements made at a time
constexpr int64_t kPairs = kBatch / 2;

struct SineCosine {
  V sine, cosine;
};

// Of 2 pi u for u in [0, 1): the nearest whole number of quarter turns is taken off exactly, and
// the rest, at most an eighth of a turn, goes into Taylor series whose remainders are below 2e-9.
HWY_INLINE SineCosine turn(V u) {
  const D d;
  const auto is = [d](V q, float a, float b) {
    return hn::Or(hn::Eq(q, hn::Set(d, a)), hn::Eq(q, hn::Set(d, b)));
  };
  const auto negate_if = [](auto mask, V v) { return hn::IfThenElse(mask, hn::Neg(v), v); };
  const V quarters = hn::Round(hn::Mul(u, hn::Set(d, 4.f)));
  const V z = hn::Mul(hn::NegMulAdd(quarters, hn::Set(d, 0.25f), u), hn::Set(d, 6.2831853f));
  const V z2 = hn::Mul(z, z);
  V s = hn::Set(d, 1.f / 362880), c = hn::Set(d, -1.f / 3628800);
  for (const float k : {-1.f / 5040, 1.f / 120, -1.f / 6}) s = hn::MulAdd(s, z2, hn::Set(d, k));
  for (const float k : {1.f / 40320, -1.f / 720, 1.f / 24, -1.f / 2, 1.f})
    c = hn::MulAdd(c, z2, hn::Set(d, k));
  s = hn::MulAdd(hn::Mul(s, z2), z, z);
  // Each quarter turn makes the sine the cosine and the cosine minus the sine.
  const auto odd = is(quarters, 1.f, 3.f);
  return {negate_if(is(quarters, 2.f, 3.f), hn::IfThenElse(odd, c, s)),
          negate_if(is(quarters, 1.f, 2.f), hn::IfThenElse(odd, s, c))};
}

// kBatch uniform numbers in [0, 1), from block `block` of the sequence on.
void make_uniform(const RandomFillArgs<float>& args, uint64_t block, float* u) {
  for (int64_t b = 0; b < kBatch / 4; ++b) {
    const PhiloxBlock words =
        philox4x32_10(args.seed, block + static_cast<uint64_t>(b), args.stream);
    for (int64_t j = 0; j < 4; ++j) u[4 * b + j] = uniform_from_bits(words.v[j]);
  }
}

// Turns kBatch uniform numbers into as many normal ones, pair by pair.
void make_normal(const RandomFillArgs<float>& args, float* u) {
  const D d;
  HWY_ALIGN float radius[kPairs], angle[kPairs], first[kPairs], second[kPairs];
  for (int64_t p = 0; p < kPairs; ++p) {
    radius[p] = u[2 * p] + 0x1p-24f;  // (0, 1]: has a logarithm
    angle[p] = u[2 * p + 1];
  }
  const V mean = hn::Set(d, args.first), deviation = hn::Set(d, args.second);
  for_vectors(kPairs, [&](auto io, int64_t p) {
    const V r = hn::Sqrt(hn::Mul(hn::Set(d, -2.f), log(io.load(radius + p))));
    const V scale = hn::Mul(deviation, r);
    const SineCosine t = turn(io.load(angle + p));
    io.store(hn::MulAdd(scale, t.cosine, mean), first + p);
    io.store(hn::MulAdd(scale, t.sine, mean), second + p);
  });
  for (int64_t p = 0; p < kPairs; ++p) {
    u[2 * p] = first[p];
    u[2 * p + 1] = second[p];
  }
}

// Elements [first, last); `first` is a multiple of kBatch.
void fill(const RandomFillArgs<float>& args, int64_t first, int64_t last) {
  const float width = args.second - args.first;
  float values[kBatch];
  for (int64_t i = first; i < last; i += kBatch) {
    make_uniform(args, args.first_block + static_cast<uint64_t>(i / 4), values);
    if (args.kind == RandomKind::normal) {
      make_normal(args, values);
    } else {
      for (float& v : values) v = args.first + width * v;
    }
    std::copy_n(values, std::min(kBatch, last - i), args.out + i);
  }
}

}  // namespace
}  // namespace stillpoint::kernels::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace stillpoint::kernels::cpu {
namespace {

HWY_EXPORT(fill);

constexpr int64_t kGrain = 16384;  // elements a chunk: about 30 us

}  // namespace

void random_fill(const RandomFillArgs<float>& args) {
  parallel_for(args.n, kGrain, [&](int64_t first, int64_t last) {
    HWY_DYNAMIC_DISPATCH(fill)(args, first, last);
  });
}

}  // namespace stillpoint::kernels::cpu
#endif  // HWY_ONCE
