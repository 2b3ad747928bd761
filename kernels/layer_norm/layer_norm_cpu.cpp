// layer_norm on the CPU: three passes over a row, all but the first from the first-level cache.
#include "kernels/layer_norm/layer_norm.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/layer_norm/layer_norm_cpu.cpp"
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

void forward_rows(const LayerNormArgs<float>& args, int64_t first, int64_t last) {
  const int64_t channels = args.channels;
  const auto n = static_cast<float>(channels);
  for (int64_t i = first; i < last; ++i) {
    const float* x = args.x + i * channels;
    V sum = hn::Zero(D()), squares = hn::Zero(D());
    for_vectors(channels, [&](auto io, int64_t k) { sum = hn::Add(sum, io.load(x + k)); });
    const V mean = hn::Set(D(), sum_lanes(sum) / n);
    const float m = hn::GetLane(mean);
    for_vectors(channels, [&](auto io, int64_t k) {
      const V c = hn::Sub(io.load(x + k, m), mean);  // 0 in lanes past the end
      squares = hn::MulAdd(c, c, squares);
    });
    const float r = 1.f / std::sqrt(sum_lanes(squares) / n + static_cast<float>(args.epsilon));
    const V scale = hn::Set(D(), r);
    float* out = args.out + i * channels;
    for_vectors(channels, [&](auto io, int64_t k) {
      V y = hn::Mul(hn::Sub(io.load(x + k), mean), scale);
      if (args.weight != nullptr) y = hn::Mul(y, io.load(args.weight + k));
      if (args.bias != nullptr) y = hn::Add(y, io.load(args.bias + k));
      io.store(y, out + k);
    });
    args.mean[i] = m;
    args.r[i] = r;
  }
}

void backward_rows(const LayerNormBackwardArgs<float>& args, int64_t first, int64_t last) {
  const int64_t channels = args.channels;
  const auto n = static_cast<float>(channels);
  for (int64_t i = first; i < last; ++i) {
    const float* x = args.x + i * channels;
    const float* g = args.g + i * channels;
    const V mean = hn::Set(D(), args.mean[i]), r = hn::Set(D(), args.r[i]);
    const auto y = [&](auto io, int64_t k) { return hn::Mul(hn::Sub(io.load(x + k), mean), r); };
    const auto gw = [&](auto io, int64_t k) {
      const V v = io.load(g + k);  // 0 in lanes past the end
      return args.weight == nullptr ? v : hn::Mul(v, io.load(args.weight + k));
    };
    V sum = hn::Zero(D()), dot = hn::Zero(D());
    for_vectors(channels, [&](auto io, int64_t k) {
      const V v = gw(io, k);
      sum = hn::Add(sum, v);
      dot = hn::MulAdd(v, y(io, k), dot);
    });
    const V shift = hn::Set(D(), sum_lanes(sum) / n), pull = hn::Set(D(), sum_lanes(dot) / n);
    float* dx = args.dx + i * channels;
    for_vectors(channels, [&](auto io, int64_t k) {
      const V d = hn::NegMulAdd(y(io, k), pull, hn::Sub(gw(io, k), shift));
      io.store(hn::Mul(r, d), dx + k);
    });
  }
}

// The share of rows [first, last), one group, in the gradients of weight and bias.
void weight_rows(const LayerNormBackwardArgs<float>& args, int64_t first, int64_t last) {
  const int64_t channels = args.channels, at = first / kLayerNormRows * channels;
  float* dw = args.dw_groups + at;
  float* db = args.db_groups + at;
  std::fill_n(dw, channels, 0.f);
  std::fill_n(db, channels, 0.f);
  for (int64_t i = first; i < last; ++i) {
    const float* x = args.x + i * channels;
    const float* g = args.g + i * channels;
    const V mean = hn::Set(D(), args.mean[i]), r = hn::Set(D(), args.r[i]);
    for_vectors(channels, [&](auto io, int64_t k) {
      const V v = io.load(g + k);
      const V y = hn::Mul(hn::Sub(io.load(x + k), mean), r);
      io.store(hn::MulAdd(v, y, io.load(dw + k)), dw + k);
      io.store(hn::Add(v, io.load(db + k)), db + k);
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
  return kLayerNormRows *
         std::max<int64_t>(1, 32768 / kLayerNormRows / std::max<int64_t>(1, channels));
}

}  // namespace

void layer_norm(const LayerNormArgs<float>& args) {
  parallel_for(args.rows, grain(args.channels), [&](int64_t first, int64_t last) {
    HWY_DYNAMIC_DISPATCH(forward_rows)(args, first, last);
  });
}

void layer_norm_backward(const LayerNormBackwardArgs<float>& args) {
  parallel_for(args.rows, grain(args.channels), [&](int64_t first, int64_t last) {
    HWY_DYNAMIC_DISPATCH(backward_rows)(args, first, last);
    if (args.dw_groups == nullptr) return;
    for (int64_t begin = first; begin < last; begin += kLayerNormRows)
      HWY_DYNAMIC_DISPATCH(weight_rows)(args, begin, std::min(begin + kLayerNormRows, last));
  });
}

}  // namespace stillpoint::kernels::cpu
#endif  // HWY_ONCE
