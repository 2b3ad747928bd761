// message_sum on the CPU. The channels of a row stay in registers while its neighbours stream by;
// ladder/README.md tells
// what each step on the way here bought.
#include "kernels/message_sum/message_sum.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/message_sum/message_sum_cpu.cpp"
#include <hwy/foreach_target.h>  // IWYU pragma: keep
#include <hwy/highway.h>

#include <algorithm>
#include <initializer_list>
#include <type_traits>
#include <utility>

#include "kernels/common/math-inl.h"
#include "kernels/common/parallel.h"

HWY_BEFORE_NAMESPACE();
namespace stillpoint::kernels::HWY_NAMESPACE {
namespace {

using Count = hn::Vec<hn::RebindToSigned<D>>;
using Mask = hn::Mask<D>;

// Vectors of channels that a row works on at a time: enough sums to hide the latency of an
// addition, and no more than 16 registers hold.
constexpr int kForwardVectors = 3;
constexpr int kBackwardVectors = 2;  // 32 channels of 81 rows of a and g are 20 KB

// 1, unknown to the compiler: x * 1 + y must stay a fused multiply-add. It is exact, and Zen cores
// run it on other ports than additions and maxima, so that dealing the additions out to both kinds
// keeps all ports busy: 1.5 cycles a vector instead of 2.
const volatile float kOne = 1.f;

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

// Calls body(i, sample) for rows [first, last) of a batch, counted over all samples.
template <class Body>
HWY_INLINE void for_rows(int64_t rows, int64_t first, int64_t last, Body&& body) {
  if (first == last) return;  // there may be no rows at all
  int64_t sample = first / rows, i = first % rows;
  for (int64_t r = first; r < last; ++r) {
    body(r, i, sample);
    if (++i == rows) {
      i = 0;
      ++sample;
    }
  }
}

// Asks for `n` floats of the next sample, also where it will write: they come from the third-level
// cache while this sample is computed.
HWY_INLINE void prefetch(const float* x, int64_t n) {
  for (int64_t k = 0; k < n; k += 16) __builtin_prefetch(x + k);
}

// ---- forward -----------------------------------------------------------------------------------

template <int kN, class Io>
HWY_INLINE void sum_row(Io io, const float* HWY_RESTRICT a, const float* HWY_RESTRICT c,
                        int64_t channels, Row row, V one, float* HWY_RESTRICT out) {
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
    step.template operator()<false>(c + j[0] * channels);
    step.template operator()<true>(c + j[1] * channels);
  }
  if (j != row.end) step.template operator()<false>(c + j[0] * channels);
  each<kN>([&](auto v) { io.store(sum[v], out + v * lanes); });
}

void forward_rows(const MessageSumArgs<float>& args, int64_t first, int64_t last) {
  const CsrView& p = args.pattern;
  const int64_t channels = args.channels;
  const V one = hn::Set(D(), kOne);
  for_rows(p.rows, first, last, [&](int64_t r, int64_t i, int64_t sample) {
    const float* a = args.a + r * channels;
    const float* c = args.c + sample * p.cols * channels;
    float* out = args.out + r * channels;
    const Row row = row_of(p, i);
    if (sample + 1 < args.batch) {
      prefetch(args.a + (r + p.rows) * channels, channels);
      if (i < p.cols) prefetch(c + (p.cols + i) * channels, channels);
    }
    for_blocks<kForwardVectors>(channels, [&](auto io, int64_t k, auto n) {
      sum_row<n>(io, a + k, c + k, channels, row, one, out + k);
    });
  });
}

// ---- backward ----------------------------------------------------------------------------------
// Both gradients pull: sums stay in registers and nothing is added to memory. A symmetric pattern
// takes one walk along the neighbours, any other a pass per gradient. A block of channels of all
// rows comes before the next block, so that what the rows share stays in the first-level cache.

template <int kN, class Io>
HWY_INLINE void count_row(Io io, const float* HWY_RESTRICT a, const float* HWY_RESTRICT c,
                          const float* HWY_RESTRICT g, int64_t channels, Row row,
                          float* HWY_RESTRICT da) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(D()));
  V minus_a[kN];
  Count count[kN];
  each<kN>([&](auto v) {
    minus_a[v] = hn::Neg(io.load(a + v * lanes));
    count[v] = hn::Zero(hn::RebindToSigned<D>());
  });
  for (const int32_t* j = row.begin; j != row.end; ++j) {
    const float* cj = c + *j * channels;
    each<kN>([&](auto v) {
      count[v] = count_where(hn::Lt(minus_a[v], io.load(cj + v * lanes)), count[v]);
    });
  }
  each<kN>([&](auto v) {
    io.store(hn::Mul(io.load(g + v * lanes), hn::ConvertTo(D(), count[v])), da + v * lanes);
  });
}

void backward_a_rows(const MessageSumBackwardArgs<float>& args, int64_t first, int64_t last) {
  const CsrView& p = args.pattern;
  const int64_t channels = args.channels;
  for_blocks<kBackwardVectors>(channels, [&](auto io, int64_t k, auto n) {
    for_rows(p.rows, first, last, [&](int64_t r, int64_t i, int64_t sample) {
      const int64_t at = r * channels + k;
      count_row<n>(io, args.a + at, args.c + sample * p.cols * channels + k, args.g + at, channels,
                   row_of(p, i), args.da + at);
    });
  });
}

// row: the rows of `a` that have this row of `c` as a neighbour.
template <int kN, class Io>
HWY_INLINE void pull_row(Io io, const float* HWY_RESTRICT a, const float* HWY_RESTRICT c,
                         const float* HWY_RESTRICT g, int64_t channels, Row row,
                         float* HWY_RESTRICT dc) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(D()));
  V minus_c[kN], sum[kN];
  each<kN>([&](auto v) {
    minus_c[v] = hn::Neg(io.load(c + v * lanes));
    sum[v] = hn::Zero(D());
  });
  for (const int32_t* i = row.begin; i != row.end; ++i) {
    const int64_t at = *i * channels;
    each<kN>([&](auto v) {
      sum[v] = add_where(hn::Lt(minus_c[v], io.load(a + at + v * lanes)), sum[v],
                         io.load(g + at + v * lanes));
    });
  }
  each<kN>([&](auto v) { io.store(sum[v], dc + v * lanes); });
}

void backward_c_rows(const MessageSumBackwardArgs<float>& args, int64_t first, int64_t last) {
  const CsrView& t = args.transposed;
  const int64_t channels = args.channels;
  for_blocks<kBackwardVectors>(channels, [&](auto io, int64_t k, auto n) {
    for_rows(t.rows, first, last, [&](int64_t r, int64_t j, int64_t sample) {
      const int64_t from = sample * t.cols * channels + k, at = r * channels + k;
      pull_row<n>(io, args.a + from, args.c + at, args.g + from, channels, row_of(t, j),
                  args.dc + at);
    });
  });
}

// Rows of a symmetric pattern, in which who listens to a row is whom it listens to.
template <int kN, class Io>
HWY_INLINE void count_and_pull_row(Io io, const float* HWY_RESTRICT a, const float* HWY_RESTRICT c,
                                   const float* HWY_RESTRICT g, int64_t channels, int64_t i,
                                   Row row, float* HWY_RESTRICT da, float* HWY_RESTRICT dc) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(D()));
  const int64_t here = i * channels;
  V minus_a[kN], minus_c[kN], sum[kN];
  Count count[kN];
  each<kN>([&](auto v) {
    minus_a[v] = hn::Neg(io.load(a + here + v * lanes));
    minus_c[v] = hn::Neg(io.load(c + here + v * lanes));
    sum[v] = hn::Zero(D());
    count[v] = hn::Zero(hn::RebindToSigned<D>());
  });
  for (const int32_t* j = row.begin; j != row.end; ++j) {
    const int64_t there = *j * channels;
    each<kN>([&](auto v) {
      const int64_t at = there + v * lanes;
      count[v] = count_where(hn::Lt(minus_a[v], io.load(c + at)), count[v]);
      sum[v] = add_where(hn::Lt(minus_c[v], io.load(a + at)), sum[v], io.load(g + at));
    });
  }
  each<kN>([&](auto v) {
    const int64_t at = here + v * lanes;
    io.store(hn::Mul(io.load(g + at), hn::ConvertTo(D(), count[v])), da + at);
    io.store(sum[v], dc + at);
  });
}

void backward_symmetric_rows(const MessageSumBackwardArgs<float>& args, int64_t first,
                             int64_t last) {
  const CsrView& p = args.pattern;
  const int64_t channels = args.channels;
  for_blocks<kBackwardVectors>(channels, [&](auto io, int64_t k, auto n) {
    for_rows(p.rows, first, last, [&](int64_t, int64_t i, int64_t sample) {
      const int64_t from = sample * p.rows * channels + k;
      if (sample + 1 < args.batch) {
        const int64_t next = from + (p.rows + i) * channels;
        for (const float* x :
             std::initializer_list<const float*>{args.a, args.c, args.g, args.da, args.dc})
          prefetch(x + next, n * static_cast<int64_t>(hn::Lanes(D())));
      }
      count_and_pull_row<n>(io, args.a + from, args.c + from, args.g + from, channels, i,
                            row_of(p, i), args.da + from, args.dc + from);
    });
  });
}

// ---- tangent -----------------------------------------------------------------------------------

void tangent_rows(const MessageSumTangentArgs<float>& args, int64_t first, int64_t last) {
  const CsrView& p = args.pattern;
  const int64_t channels = args.channels;
  for_rows(p.rows, first, last, [&](int64_t r, int64_t i, int64_t sample) {
    const float* c = args.c + sample * p.cols * channels;
    const float* tc = args.tc + sample * p.cols * channels;
    const Row row = row_of(p, i);
    for_vectors(channels, [&](auto io, int64_t k) {
      const V av = io.load(args.a + r * channels + k), tav = io.load(args.ta + r * channels + k);
      V sum = hn::Zero(D());
      for (const int32_t* j = row.begin; j != row.end; ++j) {
        const int64_t at = *j * channels + k;
        sum = add_where(active(av, io.load(c + at)), sum, hn::Add(tav, io.load(tc + at)));
      }
      io.store(sum, args.out + r * channels + k);
    });
  });
}

}  // namespace
}  // namespace stillpoint::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace stillpoint::kernels {
namespace {

HWY_EXPORT(forward_rows);
HWY_EXPORT(backward_a_rows);
HWY_EXPORT(backward_c_rows);
HWY_EXPORT(backward_symmetric_rows);
HWY_EXPORT(tangent_rows);

constexpr int64_t kRows = 81;  // rows a chunk: some 20 us at degree 20 and 96 channels

// Costs nothing beside the messages, which are as many as entries for every channel.
bool same(const CsrView& a, const CsrView& b) {
  return a.rows == b.rows && a.cols == b.cols && a.entries == b.entries &&
         std::equal(a.offsets, a.offsets + a.rows + 1, b.offsets) &&
         std::equal(a.indices, a.indices + a.entries, b.indices);
}

}  // namespace

namespace cpu {

void message_sum(const MessageSumArgs<float>& args) {
  parallel_for(args.batch * args.pattern.rows, kRows, [&](int64_t first, int64_t last) {
    HWY_DYNAMIC_DISPATCH(forward_rows)(args, first, last);
  });
}

void message_sum_backward(const MessageSumBackwardArgs<float>& args) {
  const int64_t rows = args.pattern.rows, cols = args.transposed.rows;
  if (same(args.pattern, args.transposed)) {
    parallel_for(args.batch * rows, kRows, [&](int64_t first, int64_t last) {
      HWY_DYNAMIC_DISPATCH(backward_symmetric_rows)(args, first, last);
    });
    return;
  }
  // Where there are samples for all threads, both passes go over one while it is in the cache.
  if (args.batch >= num_threads()) {
    parallel_for(args.batch, 1, [&](int64_t sample, int64_t) {
      HWY_DYNAMIC_DISPATCH(backward_a_rows)(args, sample * rows, (sample + 1) * rows);
      HWY_DYNAMIC_DISPATCH(backward_c_rows)(args, sample * cols, (sample + 1) * cols);
    });
    return;
  }
  parallel_for(args.batch * rows, kRows, [&](int64_t first, int64_t last) {
    HWY_DYNAMIC_DISPATCH(backward_a_rows)(args, first, last);
  });
  parallel_for(args.batch * cols, kRows, [&](int64_t first, int64_t last) {
    HWY_DYNAMIC_DISPATCH(backward_c_rows)(args, first, last);
  });
}

void message_sum_tangent(const MessageSumTangentArgs<float>& args) {
  parallel_for(args.batch * args.pattern.rows, kRows, [&](int64_t first, int64_t last) {
    HWY_DYNAMIC_DISPATCH(tangent_rows)(args, first, last);
  });
}

}  // namespace cpu
}  // namespace stillpoint::kernels
#endif  // HWY_ONCE
