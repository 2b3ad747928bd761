// rms_norm on the CPU: two passes over a row, the second from the first-level cache.
#include "kernels/rms_norm/rms_norm.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/rms_norm/rms_norm_cpu.cpp"
#include <hwy/foreach_target.h>  // IWYU pragma: keep
#include <hwy/highway.h>

#include <algorithm>
#include <cmath>

#include "kernels/common/math-inl.h"
#include "kernels/common/parallel.h"

HWY_BEFORE_NAMESPACE();
namespace stillpoint::kernels::cpu::HWY_NAMESPACE {
namespace {

using namespace kernels::HWY_NAMESPACE;  // vectors and their functions

// One row of s = x + residual, and of the weight.
struct Row {
  const float* x;
  const float* residual;
  const float* weight;

  template <class Io>
  HWY_INLINE V s(Io io, int64_t k) const {
    const V v = io.load(x + k);
    return residual == nullptr ? v : hn::Add(v, io.load(residual + k));
  }
  template <class Io>
  HWY_INLINE V weighted(Io io, V v, int64_t k) const {
    return weight == nullptr ? v : hn::Mul(v, io.load(weight + k));
  }
};

template <class Args>
Row row_of(const Args& args, int64_t row) {
  const int64_t first = row * args.channels;
  return {args.x + first, args.residual == nullptr ? nullptr : args.residual + first, args.weight};
}

void forward_rows(const RmsNormArgs<float>& args, int64_t first, int64_t last) {
  const int64_t channels = args.channels;
  for (int64_t r = first; r < last; ++r) {
    const Row row = row_of(args, r);
    V squares = hn::Zero(D());
    for_vectors(channels, [&](auto io, int64_t k) {
      const V s = row.s(io, k);
      squares = hn::MulAdd(s, s, squares);
    });
    const float mean = sum_lanes(squares) / static_cast<float>(channels);
    args.r[r] = 1.f / std::sqrt(mean + static_cast<float>(args.epsilon));
    const V scale = hn::Set(D(), args.r[r]);
    float* out = args.out + r * channels;
    for_vectors(channels, [&](auto io, int64_t k) {
      io.store(hn::Mul(row.weighted(io, row.s(io, k), k), scale), out + k);
    });
  }
}

void backward_rows(const RmsNormBackwardArgs<float>& args, int64_t first, int64_t last) {
  const int64_t channels = args.channels;
  for (int64_t i = first; i < last; ++i) {
    const Row row = row_of(args, i);
    const float* g = args.g + i * channels;
    V products = hn::Zero(D());
    for_vectors(channels, [&](auto io, int64_t k) {
      products = hn::MulAdd(row.weighted(io, io.load(g + k), k), row.s(io, k), products);
    });
    const float dot = sum_lanes(products) / static_cast<float>(channels);
    const V scale = hn::Set(D(), args.r[i]);
    const V pull = hn::Set(D(), args.r[i] * args.r[i] * dot);
    float* dx = args.dx + i * channels;
    for_vectors(channels, [&](auto io, int64_t k) {
      const V gw = row.weighted(io, io.load(g + k), k);
      io.store(hn::Mul(scale, hn::NegMulAdd(row.s(io, k), pull, gw)), dx + k);
    });
  }
}

// The share of rows [first, last) in the weight's gradient.
void weight_rows(const RmsNormBackwardArgs<float>& args, int64_t first, int64_t last, float* dw) {
  const int64_t channels = args.channels;
  std::fill_n(dw, channels, 0.f);
  for (int64_t i = first; i < last; ++i) {
    const Row row = row_of(args, i);
    const float* g = args.g + i * channels;
    const V scale = hn::Set(D(), args.r[i]);
    for_vectors(channels, [&](auto io, int64_t k) {
      const V share = hn::Mul(io.load(g + k), hn::Mul(row.s(io, k), scale));
      io.store(hn::Add(io.load(dw + k), share), dw + k);
    });
  }
}

}  // namespace
}  // namespace stillpoint::kernels::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace stillpoint::kernels::cpu {
namespace {

HWY_EXPORT(forward_rows);
HWY_EXPORT(backward_rows);
HWY_EXPORT(weight_rows);

// Rows a chunk: 32768 elements, about 15 us. A multiple of the groups of the weight's gradient.
int64_t grain(int64_t channels) {
  return kRmsNormRows * std::max<int64_t>(1, 32768 / kRmsNormRows / std::max<int64_t>(1, channels));
}

}  // namespace

void rms_norm(const RmsNormArgs<float>& args) {
  parallel_for(args.rows, grain(args.channels), [&](int64_t first, int64_t last) {
    HWY_DYNAMIC_DISPATCH(forward_rows)(args, first, last);
  });
}

void rms_norm_backward(const RmsNormBackwardArgs<float>& args) {
  parallel_for(args.rows, grain(args.channels), [&](int64_t first, int64_t last) {
    HWY_DYNAMIC_DISPATCH(backward_rows)(args, first, last);
    if (args.dw_groups == nullptr) return;
    for (int64_t begin = first; begin < last; begin += kRmsNormRows) {
      float* dw = args.dw_groups + begin / kRmsNormRows * args.channels;
      HWY_DYNAMIC_DISPATCH(weight_rows)(args, begin, std::min(begin + kRmsNormRows, last), dw);
    }
  });
}

}  // namespace stillpoint::kernels::cpu
#endif  // HWY_ONCE
