// spmm on the CPU: one row of the output at a time, its channels in registers while the entries of
// the row stream by. For the values, four entries of a row at a time.
#include "kernels/spmm/spmm.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/spmm/spmm_cpu.cpp"
#include <hwy/foreach_target.h>  // IWYU pragma: keep
#include <hwy/highway.h>

#include <algorithm>

#include "kernels/common/math-inl.h"
#include "kernels/common/parallel.h"

HWY_BEFORE_NAMESPACE();
namespace stillpoint::kernels::cpu::HWY_NAMESPACE {
namespace {

using namespace kernels::HWY_NAMESPACE;  // vectors and their functions

// out = sum over the entries [begin, end) of value(e) * row column(e) of x.
template <class Value>
HWY_INLINE void multiply_row(Value value, const int32_t* HWY_RESTRICT columns, int32_t begin,
                             int32_t end, const float* HWY_RESTRICT x, int64_t channels,
                             float* HWY_RESTRICT out) {
  const D d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t first = 0;
  for (; first + 4 * lanes <= channels; first += 4 * lanes) {
    V sum[4] = {hn::Zero(d), hn::Zero(d), hn::Zero(d), hn::Zero(d)};
    for (int32_t e = begin; e < end; ++e) {
      const V w = hn::Set(d, value(e));
      const float* row = x + columns[e] * channels + first;
      for (int v = 0; v < 4; ++v) sum[v] = hn::MulAdd(w, hn::LoadU(d, row + v * lanes), sum[v]);
    }
    for (int v = 0; v < 4; ++v) hn::StoreU(sum[v], d, out + first + v * lanes);
  }
  for_vectors(channels - first, [&](auto io, int64_t k) HWY_ATTR {
    V sum = hn::Zero(d);
    for (int32_t e = begin; e < end; ++e)
      sum = hn::MulAdd(hn::Set(d, value(e)), io.load(x + columns[e] * channels + first + k), sum);
    io.store(sum, out + first + k);
  });
}

template <class Value>
HWY_INLINE void multiply_rows_by(Value value, const SpmmArgs<float>& args, int64_t first,
                                 int64_t last) {
  const CsrView& p = args.pattern;
  for (int64_t r = first; r < last; ++r) {
    const int64_t i = r % p.rows;
    multiply_row(value, p.indices, p.offsets[i], p.offsets[i + 1],
                 args.x + r / p.rows * p.cols * args.channels, args.channels,
                 args.out + r * args.channels);
  }
}

void multiply_rows(const SpmmArgs<float>& args, int64_t first, int64_t last) {
  const float* values = args.values;
  const int32_t* order = args.order;
  if (order == nullptr)
    multiply_rows_by([values](int32_t e) { return values[e]; }, args, first, last);
  else
    multiply_rows_by([values, order](int32_t e) { return values[order[e]]; }, args, first, last);
}

constexpr int64_t kSamples = 8;  // at 96 channels and 81 rows, 500 KiB of g and x: they stay in L2

// Adds the products of samples [begin, end) for kCount entries that share row `i`.
template <int kCount>
HWY_INLINE void dot_group(const SpmmValuesArgs<float>& args, int64_t i, int64_t e, int64_t begin,
                          int64_t end) {
  const CsrView& p = args.pattern;
  V sum[kCount];
  for (int n = 0; n < kCount; ++n) sum[n] = hn::Zero(D());
  for (int64_t b = begin; b < end; ++b) {
    const float* g = args.g + (b * p.rows + i) * args.channels;
    const float* x[kCount];
    for (int n = 0; n < kCount; ++n)
      x[n] = args.x + (b * p.cols + p.indices[e + n]) * args.channels;
    for_vectors(args.channels, [&](auto io, int64_t k) HWY_ATTR {
      const V gk = io.load(g + k);
      for (int n = 0; n < kCount; ++n) sum[n] = hn::MulAdd(gk, io.load(x[n] + k), sum[n]);
    });
  }
  for (int n = 0; n < kCount; ++n) args.out[e + n] += sum_lanes(sum[n]);
}

void dot_entries(const SpmmValuesArgs<float>& args, int64_t first, int64_t last) {
  const CsrView& p = args.pattern;
  std::fill(args.out + first, args.out + last, 0.f);
  const int64_t first_row = row_of_entry(p, first);
  for (int64_t begin = 0; begin < args.batch; begin += kSamples) {
    const int64_t end = std::min(begin + kSamples, args.batch);
    int64_t e = first;
    for (int64_t i = first_row; e < last; ++i) {
      const int64_t row_end = std::min<int64_t>(p.offsets[i + 1], last);
      for (; e + 4 <= row_end; e += 4) dot_group<4>(args, i, e, begin, end);
      for (; e < row_end; ++e) dot_group<1>(args, i, e, begin, end);
    }
  }
}

}  // namespace
}  // namespace stillpoint::kernels::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace stillpoint::kernels::cpu {
namespace {

HWY_EXPORT(multiply_rows);
HWY_EXPORT(dot_entries);

constexpr int64_t kRows = 64;      // rows a chunk: about 40 us at degree 20 and 96 channels
constexpr int64_t kEntries = 512;  // entries a chunk: every chunk reads all samples from L3

}  // namespace

void spmm(const SpmmArgs<float>& args) {
  parallel_for(args.batch * args.pattern.rows, kRows, [&](int64_t first, int64_t last) {
    HWY_DYNAMIC_DISPATCH(multiply_rows)(args, first, last);
  });
}

void spmm_values(const SpmmValuesArgs<float>& args) {
  parallel_for(args.pattern.entries, kEntries, [&](int64_t first, int64_t last) {
    HWY_DYNAMIC_DISPATCH(dot_entries)(args, first, last);
  });
}

}  // namespace stillpoint::kernels::cpu
#endif  // HWY_ONCE
