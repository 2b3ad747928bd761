// Rung 3: SIMD for the machine's best instruction set, and sums that stay in registers: four
// vectors of channels at a time, because an addition takes four cycles and the next one to the same
// sum has to wait for it. The backward pulls in two passes, so that its sums are in registers too.
#include "kernels/message_sum/ladder/ladder.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/message_sum/ladder/cpu_3_registers.cpp"
#include <hwy/foreach_target.h>  // IWYU pragma: keep
#include <hwy/highway.h>

#include "kernels/common/math-inl.h"
#include "kernels/common/parallel.h"

HWY_BEFORE_NAMESPACE();
namespace stillpoint::kernels::HWY_NAMESPACE {
namespace {

template <int kVectors, class Io>
HWY_INLINE void sum_row(Io io, const float* a, const float* c, int64_t channels,
                        const int32_t* begin, const int32_t* end, float* out) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(D()));
  const V zero = hn::Zero(D());
  V av[kVectors], sum[kVectors];
  for (int v = 0; v < kVectors; ++v) {
    av[v] = io.load(a + v * lanes);
    sum[v] = zero;
  }
  for (const int32_t* j = begin; j != end; ++j)
    for (int v = 0; v < kVectors; ++v) {
      const V m = hn::Add(av[v], io.load(c + *j * channels + v * lanes));
      sum[v] = hn::Add(sum[v], hn::IfThenZeroElse(hn::Lt(m, zero), m));
    }
  for (int v = 0; v < kVectors; ++v) io.store(sum[v], out + v * lanes);
}

void registers_row(const MessageSumArgs<float>& args, int64_t r) {
  const CsrView& p = args.pattern;
  const int64_t channels = args.channels;
  const int64_t four = 4 * static_cast<int64_t>(hn::Lanes(D()));
  const float* a = args.a + r * channels;
  const float* c = args.c + r / p.rows * p.cols * channels;
  float* out = args.out + r * channels;
  const int32_t* begin = p.indices + p.offsets[r % p.rows];
  const int32_t* end = p.indices + p.offsets[r % p.rows + 1];
  int64_t k = 0;
  for (; k + four <= channels; k += four)
    sum_row<4>(WholeVector{}, a + k, c + k, channels, begin, end, out + k);
  for_vectors(channels - k, [&](auto io, int64_t rest) {
    sum_row<1>(io, a + k + rest, c + k + rest, channels, begin, end, out + k + rest);
  });
}

void registers_da_row(const MessageSumBackwardArgs<float>& args, int64_t r) {
  const CsrView& p = args.pattern;
  const int64_t channels = args.channels, i = r % p.rows;
  const float* c = args.c + r / p.rows * p.cols * channels;
  for_vectors(channels, [&](auto io, int64_t k) {
    const V a = io.load(args.a + r * channels + k), one = hn::Set(D(), 1.f);
    V active = hn::Zero(D());
    for (int32_t e = p.offsets[i]; e < p.offsets[i + 1]; ++e) {
      const V m = hn::Add(a, io.load(c + p.indices[e] * channels + k));
      active = hn::Add(active, hn::IfThenElseZero(hn::Gt(m, hn::Zero(D())), one));
    }
    io.store(hn::Mul(io.load(args.g + r * channels + k), active), args.da + r * channels + k);
  });
}

void registers_dc_row(const MessageSumBackwardArgs<float>& args, int64_t r) {
  const CsrView& t = args.transposed;
  const int64_t channels = args.channels, j = r % t.rows;
  const int64_t sample = r / t.rows * t.cols * channels;
  for_vectors(channels, [&](auto io, int64_t k) {
    const V c = io.load(args.c + r * channels + k);
    V sum = hn::Zero(D());
    for (int32_t e = t.offsets[j]; e < t.offsets[j + 1]; ++e) {
      const int64_t at = sample + t.indices[e] * channels + k;
      const V m = hn::Add(io.load(args.a + at), c);
      sum = hn::Add(sum, hn::IfThenElseZero(hn::Gt(m, hn::Zero(D())), io.load(args.g + at)));
    }
    io.store(sum, args.dc + r * channels + k);
  });
}

}  // namespace
}  // namespace stillpoint::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace stillpoint::kernels {
namespace {
HWY_EXPORT(registers_row);
HWY_EXPORT(registers_da_row);
HWY_EXPORT(registers_dc_row);
constexpr int64_t kRows = 64;  // rows a chunk
}  // namespace

void cpu::ladder::registers(const MessageSumArgs<float>& args) {
  parallel_for(args.batch * args.pattern.rows, kRows, [&](int64_t first, int64_t last) {
    for (int64_t r = first; r < last; ++r) HWY_DYNAMIC_DISPATCH(registers_row)(args, r);
  });
}

void cpu::ladder::registers_backward(const MessageSumBackwardArgs<float>& args) {
  parallel_for(args.batch * args.pattern.rows, kRows, [&](int64_t first, int64_t last) {
    for (int64_t r = first; r < last; ++r) HWY_DYNAMIC_DISPATCH(registers_da_row)(args, r);
  });
  parallel_for(args.batch * args.transposed.rows, kRows, [&](int64_t first, int64_t last) {
    for (int64_t r = first; r < last; ++r) HWY_DYNAMIC_DISPATCH(registers_dc_row)(args, r);
  });
}

}  // namespace stillpoint::kernels
#endif  // HWY_ONCE
