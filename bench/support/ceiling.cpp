#include "bench/support/ceiling.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "bench/support/ceiling.cpp"
#include <hwy/foreach_target.h>  // IWYU pragma: keep
#include <hwy/highway.h>

#include <algorithm>
#include <functional>
#include <vector>

#include "bench/support/clock.h"
#include "kernels/common/math-inl.h"
#include "kernels/common/parallel.h"
#include "kernels/gemm/gemm.h"

HWY_BEFORE_NAMESPACE();
namespace stillpoint::bench::HWY_NAMESPACE {
namespace {

using namespace kernels::HWY_NAMESPACE;  // vectors and their functions

// 12 chains hide four cycles' latency on two pipes and fit 16 registers. Returns the flops; `start`
// and `end` keep the compiler from knowing the result.
double multiply_add(int64_t rounds, float start, float& end) {
  const D d;
  const V x = hn::Set(d, 0.999f), y = hn::Set(d, start + 0.001f);             // they stay near 1
  const auto chain = [&](float first) { return hn::Set(d, start + first); };  // all different
  V a0 = chain(0), a1 = chain(1), a2 = chain(2), a3 = chain(3), a4 = chain(4), a5 = chain(5);
  V a6 = chain(6), a7 = chain(7), a8 = chain(8), a9 = chain(9), a10 = chain(10), a11 = chain(11);
  for (int64_t k = 0; k < rounds; ++k) {
    a0 = hn::MulAdd(a0, x, y), a1 = hn::MulAdd(a1, x, y), a2 = hn::MulAdd(a2, x, y);
    a3 = hn::MulAdd(a3, x, y), a4 = hn::MulAdd(a4, x, y), a5 = hn::MulAdd(a5, x, y);
    a6 = hn::MulAdd(a6, x, y), a7 = hn::MulAdd(a7, x, y), a8 = hn::MulAdd(a8, x, y);
    a9 = hn::MulAdd(a9, x, y), a10 = hn::MulAdd(a10, x, y), a11 = hn::MulAdd(a11, x, y);
  }
  V sum = y;
  for (const V a : {a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11}) sum = hn::Add(sum, a);
  end = sum_lanes(sum);
  return 2.0 * 12 * static_cast<double>(rounds) * static_cast<double>(hn::Lanes(d));
}

void write_all(float* to, int64_t n, float value) {
  const V v = hn::Set(D(), value);
  for_vectors(n, [&](auto io, int64_t k) { io.store(v, to + k); });
}

float read_all(const float* from, int64_t n) {
  const D d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  V s0 = hn::Zero(d), s1 = s0, s2 = s0, s3 = s0;
  for (int64_t k = 0; k + 4 * lanes <= n; k += 4 * lanes) {
    s0 = hn::Add(s0, hn::LoadU(d, from + k));
    s1 = hn::Add(s1, hn::LoadU(d, from + k + lanes));
    s2 = hn::Add(s2, hn::LoadU(d, from + k + 2 * lanes));
    s3 = hn::Add(s3, hn::LoadU(d, from + k + 3 * lanes));
  }
  return sum_lanes(hn::Add(hn::Add(s0, s1), hn::Add(s2, s3)));
}

}  // namespace
}  // namespace stillpoint::bench::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace stillpoint::bench {
namespace {

HWY_EXPORT(multiply_add);
HWY_EXPORT(write_all);
HWY_EXPORT(read_all);

constexpr int kTries = 7;

// The shortest of some calls of body(thread) by every thread: a ceiling is what was once reached.
double shortest(const std::function<void(int64_t thread)>& body) {
  double best = 1e30;
  for (int k = 0; k < kTries; ++k) {
    best = std::min(best, seconds(Device::cpu, 1, [&] {
                      kernels::parallel_for(kernels::num_threads(), 1,
                                            [&](int64_t thread, int64_t) { body(thread); });
                    }));
  }
  return best;
}

size_t threads() { return static_cast<size_t>(kernels::num_threads()); }

}  // namespace

double multiply_add_rate() {
  constexpr int64_t kRounds = 1'000'000;  // some 2 ms
  std::vector<float> end(threads());
  std::vector<double> flops(threads());
  const double time = shortest([&](int64_t thread) {
    const auto t = static_cast<size_t>(thread);
    flops[t] = HWY_DYNAMIC_DISPATCH(multiply_add)(kRounds, end[t] * 1e-9f, end[t]);
  });
  return flops[0] * static_cast<double>(threads()) / time;
}

double product_rate(int64_t m, int64_t n, int64_t k) {
  const double flops = 2.0 * static_cast<double>(m * n) * static_cast<double>(k);
  const int calls = std::max(1, static_cast<int>(3e8 / flops));
  struct Matrices {
    std::vector<float> a, b, out;
  };
  std::vector<Matrices> all(threads());
  for (Matrices& x : all) {
    x.a.assign(static_cast<size_t>(m * k), 0.5f);
    x.b.assign(static_cast<size_t>(k * n), 0.25f);
    x.out.resize(static_cast<size_t>(m * n));
  }
  const double time = shortest([&](int64_t thread) {
    Matrices& x = all[static_cast<size_t>(thread)];
    for (int call = 0; call < calls; ++call) {
      kernels::cpu::gemm({.a = x.a.data(),
                          .b = x.b.data(),
                          .bias = nullptr,
                          .out = x.out.data(),
                          .workspace = nullptr,
                          .m = m,
                          .n = n,
                          .k = k,
                          .transpose_a = false,
                          .transpose_b = false});
    }
  });
  return flops * calls * static_cast<double>(threads()) / time;
}

double stream_rate(int64_t bytes) {
  const int64_t each = bytes / kernels::num_threads() / static_cast<int64_t>(sizeof(float));
  std::vector<std::vector<float>> arrays(threads(), std::vector<float>(static_cast<size_t>(each)));
  std::vector<float> sums(threads());
  const auto sweep = [&](int64_t thread) {
    const auto t = static_cast<size_t>(thread);
    HWY_DYNAMIC_DISPATCH(write_all)(arrays[t].data(), each, sums[t]);
    sums[t] = HWY_DYNAMIC_DISPATCH(read_all)(arrays[t].data(), each);
  };
  return 2.0 * static_cast<double>(each) * sizeof(float) * static_cast<double>(threads()) /
         shortest(sweep);
}

}  // namespace stillpoint::bench
#endif  // HWY_ONCE
