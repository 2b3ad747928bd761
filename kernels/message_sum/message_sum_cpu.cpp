// message_sum on the CPU. The channels of a row stay in registers while its neighbours stream by;
// ladder/README.md tells
// what each step on the way here bought; message_sum-inl.h holds the rows.
#include "kernels/message_sum/message_sum.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/message_sum/message_sum_cpu.cpp"
#include <hwy/foreach_target.h>  // IWYU pragma: keep
#include <hwy/highway.h>

#include <algorithm>
#include <initializer_list>

#include "kernels/common/parallel.h"
#include "kernels/message_sum/message_sum-inl.h"

HWY_BEFORE_NAMESPACE();
namespace stillpoint::kernels::HWY_NAMESPACE {
namespace {

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

// ---- forward -----------------------------------------------------------------------------------

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

void backward_c_rows(const MessageSumBackwardArgs<float>& args, int64_t first, int64_t last) {
  const CsrView& t = args.transposed;
  const int64_t channels = args.channels;
  for_blocks<kBackwardVectors>(channels, [&](auto io, int64_t k, auto n) {
    for_rows(t.rows, first, last, [&](int64_t r, int64_t j, int64_t sample) {
      const int64_t from = sample * t.cols * channels + k, at = r * channels + k;
      pull_row<n>(io, args.a + from, args.c + at, args.g + from, channels, channels, row_of(t, j),
                  args.dc + at);
    });
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
      const int64_t at = from + i * channels;
      count_and_pull_row<n>(io, args.a + from, args.c + from, args.g + from, channels, channels, i,
                            row_of(p, i), args.da + at, args.dc + at);
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

}  // namespace

namespace cpu {

void message_sum(const MessageSumArgs<float>& args) {
  parallel_for(args.batch * args.pattern.rows, kRows, [&](int64_t first, int64_t last) {
    HWY_DYNAMIC_DISPATCH(forward_rows)(args, first, last);
  });
}

void message_sum_backward(const MessageSumBackwardArgs<float>& args) {
  const int64_t rows = args.pattern.rows, cols = args.transposed.rows;
  if (same_pattern(args.pattern, args.transposed)) {
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
