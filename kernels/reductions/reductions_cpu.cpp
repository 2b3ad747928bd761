// Reductions on the CPU: vectors of columns where the reduced dimension is not the last, vectors
// along it where it is.
#include "kernels/reductions/reductions.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/reductions/reductions_cpu.cpp"
#include <hwy/foreach_target.h>  // IWYU pragma: keep
#include <hwy/highway.h>

#include "kernels/common/math-inl.h"
#include "kernels/common/parallel.h"

HWY_BEFORE_NAMESPACE();
namespace stillpoint::kernels::HWY_NAMESPACE {
namespace {

// scale * sum of n numbers next to each other. Four accumulators hide the adder's latency.
float sum_run(const float* x, int64_t n, float scale) {
  const D d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  V sum0 = hn::Zero(d), sum1 = sum0, sum2 = sum0, sum3 = sum0;
  int64_t k = 0;
  for (; k + 4 * lanes <= n; k += 4 * lanes) {
    sum0 = hn::Add(sum0, hn::LoadU(d, x + k));
    sum1 = hn::Add(sum1, hn::LoadU(d, x + k + lanes));
    sum2 = hn::Add(sum2, hn::LoadU(d, x + k + 2 * lanes));
    sum3 = hn::Add(sum3, hn::LoadU(d, x + k + 3 * lanes));
  }
  for_vectors(n - k, [&](auto io, int64_t i) { sum0 = hn::Add(sum0, io.load(x + k + i)); });
  return scale * sum_lanes(hn::Add(hn::Add(sum0, sum1), hn::Add(sum2, sum3)));
}

// Sums of n rows of `inner` columns. Four vectors of columns at a time stay in registers.
void sum_rows(const float* x, int64_t n, int64_t inner, float scale, float* out) {
  const D d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const V s = hn::Set(d, scale);
  int64_t i = 0;
  for (; i + 4 * lanes <= inner; i += 4 * lanes) {
    V sum0 = hn::Zero(d), sum1 = sum0, sum2 = sum0, sum3 = sum0;
    for (int64_t k = 0; k < n; ++k) {
      const float* row = x + k * inner + i;
      sum0 = hn::Add(sum0, hn::LoadU(d, row));
      sum1 = hn::Add(sum1, hn::LoadU(d, row + lanes));
      sum2 = hn::Add(sum2, hn::LoadU(d, row + 2 * lanes));
      sum3 = hn::Add(sum3, hn::LoadU(d, row + 3 * lanes));
    }
    hn::StoreU(hn::Mul(s, sum0), d, out + i);
    hn::StoreU(hn::Mul(s, sum1), d, out + i + lanes);
    hn::StoreU(hn::Mul(s, sum2), d, out + i + 2 * lanes);
    hn::StoreU(hn::Mul(s, sum3), d, out + i + 3 * lanes);
  }
  for_vectors(inner - i, [&](auto io, int64_t j) {
    V sum = hn::Zero(d);
    for (int64_t k = 0; k < n; ++k) sum = hn::Add(sum, io.load(x + k * inner + i + j));
    io.store(hn::Mul(s, sum), out + i + j);
  });
}

// One pass over [outer, n, inner] in chunks of n: tasks [first, last) of outer * chunks.
void sum_tasks(const float* x, float* out, int64_t n, int64_t inner, int64_t chunk, int64_t chunks,
               float scale, int64_t first, int64_t last) {
  for (int64_t task = first; task < last; ++task) {
    const int64_t o = task / chunks, begin = task % chunks * chunk;
    const int64_t length = begin + chunk < n ? chunk : n - begin;
    const float* from = x + (o * n + begin) * inner;
    if (inner == 1) {
      out[task] = sum_run(from, length, scale);
    } else {
      sum_rows(from, length, inner, scale, out + task * inner);
    }
  }
}

void repeat_rows(const RepeatArgs<float>& args, int64_t first, int64_t last) {
  if (args.inner == 1) {
    for (int64_t o = first; o < last; ++o) {
      const V v = hn::Set(D(), args.scale * args.x[o]);
      float* out = args.out + o * args.n;
      for_vectors(args.n, [&](auto io, int64_t k) { io.store(v, out + k); });
    }
    return;
  }
  const V s = hn::Set(D(), args.scale);
  for (int64_t r = first; r < last; ++r) {
    const float* x = args.x + r / args.n * args.inner;
    float* out = args.out + r * args.inner;
    for_vectors(args.inner,
                [&](auto io, int64_t i) { io.store(hn::Mul(s, io.load(x + i)), out + i); });
  }
}

}  // namespace
}  // namespace stillpoint::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "kernels/reductions/reductions_reference.h"

namespace stillpoint::kernels {
namespace {

HWY_EXPORT(sum_tasks);
HWY_EXPORT(repeat_rows);

constexpr int64_t kElements = 16384;  // wanted per task given to a thread

int64_t grain(int64_t elements_per_item) {
  return std::max<int64_t>(1, kElements / std::max<int64_t>(1, elements_per_item));
}

void sum_pass(const float* x, float* out, int64_t outer, int64_t n, int64_t inner, int64_t chunk,
              int64_t chunks, float scale) {
  parallel_for(outer * chunks, grain(chunk * inner), [&](int64_t first, int64_t last) {
    HWY_DYNAMIC_DISPATCH(sum_tasks)(x, out, n, inner, chunk, chunks, scale, first, last);
  });
}

}  // namespace

void cpu::reduce_sum(const ReduceSumArgs<float>& args) {
  if (args.outer * args.inner == 0) return;
  const int64_t chunks = reduce_chunks(args.n, args.inner);
  if (chunks == 1) {
    sum_pass(args.x, args.out, args.outer, args.n, args.inner, args.n, 1, args.scale);
    return;
  }
  sum_pass(args.x, args.workspace, args.outer, args.n, args.inner, reduce_chunk(args.n, args.inner),
           chunks, 1.f);
  sum_pass(args.workspace, args.out, args.outer, chunks, args.inner, chunks, 1, args.scale);
}

void cpu::repeat(const RepeatArgs<float>& args) {
  if (args.outer * args.n * args.inner == 0) return;
  const bool runs = args.inner == 1;
  parallel_for(runs ? args.outer : args.outer * args.n, grain(runs ? args.n : args.inner),
               [&](int64_t first, int64_t last) {
                 HWY_DYNAMIC_DISPATCH(repeat_rows)(args, first, last);
               });
}

// Maxima are taken over few numbers (digits, classes): the plain loop, spread over the threads.
void cpu::reduce_max(const ReduceMaxArgs<float>& args) {
  parallel_for(args.outer, grain(args.n * args.inner), [&](int64_t first, int64_t last) {
    ReduceMaxArgs<float> part = args;
    part.x += first * args.n * args.inner;
    part.out += first * args.inner;
    part.index += first * args.inner;
    part.outer = last - first;
    reference::reduce_max(part);
  });
}

void cpu::scatter_max(const ScatterMaxArgs<float>& args) {
  parallel_for(args.outer, grain(args.n * args.inner), [&](int64_t first, int64_t last) {
    ScatterMaxArgs<float> part = args;
    part.g += first * args.inner;
    part.index += first * args.inner;
    part.dx += first * args.n * args.inner;
    part.outer = last - first;
    reference::scatter_max(part);
  });
}

}  // namespace stillpoint::kernels
#endif  // HWY_ONCE
