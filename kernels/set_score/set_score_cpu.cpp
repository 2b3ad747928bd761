// set_score on the CPU: a row at a time, the points of the quadrature side by side in vectors.
#include "kernels/set_score/set_score.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/set_score/set_score_cpu.cpp"
#include <hwy/foreach_target.h>  // IWYU pragma: keep
#include <hwy/highway.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/common/math-inl.h"
#include "kernels/common/parallel.h"
#include "kernels/set_score/set_score_row.h"

HWY_BEFORE_NAMESPACE();
namespace stillpoint::kernels::cpu::HWY_NAMESPACE {
namespace {

using namespace kernels::HWY_NAMESPACE;  // vectors and their functions

// log(1 - exp(-e^y)) and its derivative, from (1 - exp(-e)) / e: its Taylor series where e = e^y is
// below 1/2, whose remainder is below 1e-8. Above 5 the one is 0 in float, and so is the other.
struct Term {
  V log, slope;
};
HWY_INLINE Term term(V y) {
  const D d;
  const V one = hn::Set(d, 1.f), top = hn::Set(d, 5.f);
  y = hn::IfThenElse(hn::Gt(y, top), top, y);
  const V e = exp(y), decay = exp(hn::Neg(e));
  const auto near = hn::Lt(e, hn::Set(d, 0.5f));
  V p = hn::Set(d, -1.f / 40320);
  for (const float c : {1.f / 5040, -1.f / 720, 1.f / 120, -1.f / 24, 1.f / 6, -1.f / 2, 1.f})
    p = hn::MulAdd(p, e, hn::Set(d, c));
  const V part = hn::IfThenElse(near, p, hn::Sub(one, decay));
  const V factor = hn::IfThenElse(near, one, e);
  return {hn::Add(log(part), hn::IfThenElseZero(near, y)), hn::Div(hn::Mul(decay, factor), part)};
}

HWY_INLINE V point(int n) {
  const D d;
  const V at = hn::Iota(d, static_cast<float>(n));
  return hn::MulAdd(at, hn::Set(d, static_cast<float>(kSetGrid.step)),
                    hn::Set(d, static_cast<float>(kSetGrid.first)));
}

// A row's shares of its integral at all points; returns log of the integral.
float shares(const float* log_a, int64_t count, float* share) {
  const D d;
  const int lanes = static_cast<int>(hn::Lanes(d));
  V most = hn::Set(d, -std::numeric_limits<float>::infinity());
  for (int n = 0; n < kSetGrid.points; n += lanes) {
    const V x = point(n);
    V sum = hn::Sub(x, exp(x));
    for (int64_t t = 0; t < count; ++t)
      sum = hn::Add(sum, term(hn::Add(x, hn::Set(d, log_a[t]))).log);
    hn::Store(sum, d, share + n);
    most = hn::Max(sum, most);
  }
  const float max = hn::GetLane(hn::MaxOfLanes(d, most));  // NaN need not pass: it reaches the sum
  V total = hn::Zero(d);
  for (int n = 0; n < kSetGrid.points; n += lanes) {
    const V f = exp(hn::Sub(hn::Load(d, share + n), hn::Set(d, max)));
    hn::Store(f, d, share + n);
    total = hn::Add(total, f);
  }
  const float sum = sum_lanes(total);
  for (int n = 0; n < kSetGrid.points; n += lanes)
    hn::Store(hn::Div(hn::Load(d, share + n), hn::Set(d, sum)), d, share + n);
  // The largest point counts 1, unless none is a number: some targets' MaxOfLanes knows no -inf.
  if (!(sum >= 1)) return std::numeric_limits<float>::quiet_NaN();
  return max + std::log(sum * static_cast<float>(kSetGrid.step));
}

void forward_rows(const SetScoreArgs<float>& args, int64_t first, int64_t last) {
  HWY_ALIGN float share[kSetGrid.points];
  float log_a[kSetCount];
  for (int64_t row = first; row < last; ++row) {
    set_log_weights(args.log_prob + row * args.count, args.count, log_a);
    args.out[row] = shares(log_a, args.count, share);
  }
}

void backward_rows(const SetScoreBackwardArgs<float>& args, int64_t first, int64_t last) {
  const D d;
  HWY_ALIGN float share[kSetGrid.points];
  float log_a[kSetCount], h[kSetCount];
  for (int64_t row = first; row < last; ++row) {
    const float* log_prob = args.log_prob + row * args.count;
    set_log_weights(log_prob, args.count, log_a);
    (void)shares(log_a, args.count, share);
    for (int64_t t = 0; t < args.count; ++t) {
      V sum = hn::Zero(d);
      for (int n = 0; n < kSetGrid.points; n += static_cast<int>(hn::Lanes(d)))
        sum = hn::MulAdd(hn::Load(d, share + n),
                         term(hn::Add(point(n), hn::Set(d, log_a[t]))).slope, sum);
      h[t] = sum_lanes(sum);
    }
    set_row_gradient(log_prob, args.count, h, args.g[row], args.d + row * args.count);
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

constexpr int64_t kGrain = 8;  // rows a chunk: about 20 us with 20 picks

}  // namespace

void set_score(const SetScoreArgs<float>& args) {
  parallel_for(args.rows, kGrain, [&](int64_t first, int64_t last) {
    HWY_DYNAMIC_DISPATCH(forward_rows)(args, first, last);
  });
}

void set_score_backward(const SetScoreBackwardArgs<float>& args) {
  parallel_for(args.rows, kGrain, [&](int64_t first, int64_t last) {
    HWY_DYNAMIC_DISPATCH(backward_rows)(args, first, last);
  });
}

}  // namespace stillpoint::kernels::cpu
#endif  // HWY_ONCE
