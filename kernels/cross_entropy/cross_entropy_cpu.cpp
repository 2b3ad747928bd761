// cross_entropy and softmax on the CPU: a row at a time, in vectors.
#include "kernels/cross_entropy/cross_entropy.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cross_entropy/cross_entropy_cpu.cpp"
#include <hwy/foreach_target.h>  // IWYU pragma: keep
#include <hwy/highway.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/common/math-inl.h"
#include "kernels/common/parallel.h"

HWY_BEFORE_NAMESPACE();
namespace stillpoint::kernels::cpu::HWY_NAMESPACE {
namespace {

using namespace kernels::HWY_NAMESPACE;  // vectors and their functions

constexpr float kInfinity = std::numeric_limits<float>::infinity();

float row_max(const float* x, int64_t channels) {
  V most = hn::Set(D(), -kInfinity);
  for_vectors(channels,
              [&](auto io, int64_t k) { most = max_or_nan(io.load(x + k, -kInfinity), most); });
  return max_lanes(most);
}

// The sum of exp(x - max), each of which is also given to `use`.
template <class Use>
float sum_exponentials(const float* x, int64_t channels, float max, Use use) {
  V sum = hn::Zero(D());
  const V shift = hn::Set(D(), max);
  for_vectors(channels, [&](auto io, int64_t k) {
    const V e = exp(hn::Sub(io.load(x + k, -kInfinity), shift));
    use(io, e, k);
    sum = hn::Add(sum, e);
  });
  return sum_lanes(sum);
}

void softmax_rows(const SoftmaxArgs<float>& args, int64_t first, int64_t last) {
  for (int64_t r = first; r < last; ++r) {
    const float* x = args.x + r * args.channels;
    float* out = args.out + r * args.channels;
    const float sum = sum_exponentials(x, args.channels, row_max(x, args.channels),
                                       [&](auto io, V e, int64_t k) { io.store(e, out + k); });
    const V total = hn::Set(D(), sum);
    for_vectors(args.channels,
                [&](auto io, int64_t k) { io.store(hn::Div(io.load(out + k), total), out + k); });
  }
}

void softmax_backward_rows(const SoftmaxBackwardArgs<float>& args, int64_t first, int64_t last) {
  for (int64_t r = first; r < last; ++r) {
    const float* y = args.y + r * args.channels;
    const float* g = args.g + r * args.channels;
    float* dx = args.dx + r * args.channels;
    V products = hn::Zero(D());
    for_vectors(args.channels, [&](auto io, int64_t k) {
      products = hn::MulAdd(io.load(g + k), io.load(y + k), products);
    });
    const V dot = hn::Set(D(), sum_lanes(products));
    for_vectors(args.channels, [&](auto io, int64_t k) {
      io.store(hn::Mul(io.load(y + k), hn::Sub(io.load(g + k), dot)), dx + k);
    });
  }
}

// The rows of one group of kCrossEntropyRows: its loss and the number of its targets.
void loss_rows(const CrossEntropyArgs<float>& args, int64_t first, int64_t last, float* partial) {
  float loss = 0, count = 0;
  for (int64_t r = first; r < last; ++r) {
    const float* x = args.x + r * args.channels;
    const int32_t target = args.targets[r];
    float log_sum = std::numeric_limits<float>::quiet_NaN();
    if (target < args.channels) {
      const float max = row_max(x, args.channels);
      log_sum = max + std::log(sum_exponentials(x, args.channels, max, [](auto, V, int64_t) {}));
    }
    args.log_sum[r] = log_sum;
    if (target < 0) continue;
    loss += target < args.channels ? log_sum - x[target] : log_sum;
    count += 1;
  }
  partial[0] = loss;
  partial[1] = count;
}

void backward_rows(const CrossEntropyBackwardArgs<float>& args, int64_t first, int64_t last) {
  const float scale = *args.g * *args.scale;
  for (int64_t r = first; r < last; ++r) {
    const float* x = args.x + r * args.channels;
    float* dx = args.dx + r * args.channels;
    const int32_t target = args.targets[r];
    const V factor = hn::Set(D(), scale), log_sum = hn::Set(D(), args.log_sum[r]);
    for_vectors(args.channels, [&](auto io, int64_t k) {
      const V p = exp(hn::Sub(io.load(x + k), log_sum));
      io.store(target < 0 ? hn::Zero(D()) : hn::Mul(factor, p), dx + k);
    });
    if (target >= 0 && target < args.channels)
      dx[target] = scale * (std::exp(x[target] - args.log_sum[r]) - 1.f);
  }
}

}  // namespace
}  // namespace stillpoint::kernels::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace stillpoint::kernels::cpu {
namespace {

HWY_EXPORT(softmax_rows);
HWY_EXPORT(softmax_backward_rows);
HWY_EXPORT(loss_rows);
HWY_EXPORT(backward_rows);

// Rows a chunk: about 40 us, counting what a row costs besides its channels. A multiple of the
// groups that the loss adds up.
int64_t grain(int64_t channels) {
  return kCrossEntropyRows * std::max<int64_t>(1, 1024 / (channels + 64));
}

}  // namespace

void softmax(const SoftmaxArgs<float>& args) {
  parallel_for(args.rows, grain(args.channels), [&](int64_t first, int64_t last) {
    HWY_DYNAMIC_DISPATCH(softmax_rows)(args, first, last);
  });
}

void softmax_backward(const SoftmaxBackwardArgs<float>& args) {
  parallel_for(args.rows, grain(args.channels), [&](int64_t first, int64_t last) {
    HWY_DYNAMIC_DISPATCH(softmax_backward_rows)(args, first, last);
  });
}

void cross_entropy(const CrossEntropyArgs<float>& args) {
  parallel_for(args.rows, grain(args.channels), [&](int64_t first, int64_t last) {
    for (int64_t begin = first; begin < last; begin += kCrossEntropyRows) {
      float* partial = args.workspace + 2 * (begin / kCrossEntropyRows);
      HWY_DYNAMIC_DISPATCH(loss_rows)
      (args, begin, std::min(begin + kCrossEntropyRows, last), partial);
    }
  });
  float loss = 0, count = 0;
  for (int64_t k = 0; k < cross_entropy_workspace(args.rows); k += 2) {
    loss += args.workspace[k];
    count += args.workspace[k + 1];
  }
  *args.scale = count > 0 ? 1.f / count : 0.f;
  *args.loss = loss * *args.scale;
}

void cross_entropy_backward(const CrossEntropyBackwardArgs<float>& args) {
  parallel_for(args.rows, grain(args.channels), [&](int64_t first, int64_t last) {
    HWY_DYNAMIC_DISPATCH(backward_rows)(args, first, last);
  });
}

}  // namespace stillpoint::kernels::cpu
#endif  // HWY_ONCE
