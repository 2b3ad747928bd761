// graph_attention on the CPU: one head of one row after the other, 64 entries at a time, whose
// scores become probabilities in vectors.
#include "kernels/graph_attention/graph_attention.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/graph_attention/graph_attention_cpu.cpp"
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

constexpr int64_t kEntries = 64;  // at a time
constexpr float kInf = std::numeric_limits<float>::infinity();

HWY_INLINE float dot(const float* a, const float* b, int64_t n) {
  V sum = hn::Zero(D());
  for_vectors(n,
              [&](auto io, int64_t d) { sum = hn::MulAdd(io.load(a + d), io.load(b + d), sum); });
  return sum_lanes(sum);
}

// Calls body(columns, count) for the entries of a row, kEntries at a time.
template <class Body>
HWY_INLINE void for_entries(const CsrView& pattern, int64_t row, Body&& body) {
  const int32_t end = pattern.offsets[row + 1];
  for (int64_t e = pattern.offsets[row]; e < end; e += kEntries)
    body(pattern.indices + e, std::min<int64_t>(kEntries, end - e));
}

// to = factor to + sum over t of weight[t] row[t], where rows lie at first + column[t] stride.
HWY_INLINE void add_rows(const float* weight, const int32_t* column, int64_t count,
                         const float* first, int64_t stride, int64_t width, float factor,
                         float* to) {
  for_vectors(width, [&](auto io, int64_t d) {
    V sum = hn::Mul(hn::Set(D(), factor), io.load(to + d));
    for (int64_t t = 0; t < count; ++t)
      sum = hn::MulAdd(hn::Set(D(), weight[t]), io.load(first + column[t] * stride + d), sum);
    io.store(sum, to + d);
  });
}

// One head of row i: q, out and the first key and value are its own.
void forward_head(const GraphAttentionArgs<float>& args, int64_t i, const float* q, const float* k,
                  const float* v, float* out, float* log_sum) {
  const int64_t width = args.shape.width, stride = args.shape.heads * width;
  HWY_ALIGN float p[kEntries];
  float max = -kInf, sum = 0.f;
  std::fill_n(out, width, 0.f);
  for_entries(args.pattern, i, [&](const int32_t* column, int64_t count) {
    float most = max;
    for (int64_t t = 0; t < count; ++t) {
      p[t] = static_cast<float>(args.shape.scale) * dot(q, k + column[t] * stride, width);
      if (p[t] > most || std::isnan(p[t])) most = p[t];
    }
    const float shift = most == -kInf ? 0.f : most;  // nothing seen yet
    const float factor = max == most ? 1.f : std::exp(max - shift);
    max = most;
    V total = hn::Zero(D());
    for_vectors(count, [&](auto io, int64_t t) {
      const V e = exp(hn::Sub(io.load(p + t, -kInf), hn::Set(D(), shift)));
      io.store(e, p + t);
      total = hn::Add(total, e);
    });
    sum = sum * factor + sum_lanes(total);
    add_rows(p, column, count, v, stride, width, factor, out);
  });
  const bool any = max != -kInf;
  *log_sum = any ? max + std::log(sum) : kInf;
  const V share = hn::Set(D(), any ? 1.f / sum : 0.f);
  for_vectors(width,
              [&](auto io, int64_t d) { io.store(hn::Mul(share, io.load(out + d)), out + d); });
}

void forward_rows(const GraphAttentionArgs<float>& args, int64_t first, int64_t last) {
  const int64_t rows = args.pattern.rows, width = args.shape.width, heads = args.shape.heads;
  for (int64_t row = first; row < last; ++row)
    for (int64_t h = 0; h < heads; ++h) {
      const int64_t own = (row * heads + h) * width;
      const int64_t other = (row / rows * args.pattern.cols * heads + h) * width;
      forward_head(args, row % rows, args.q + own, args.k + other, args.v + other, args.out + own,
                   args.log_sum + row * heads + h);
    }
}

// ---- backward ----------------------------------------------------------------------------------

// What lies on one side of the pattern: queries and their gradients g, or keys and values.
struct Side {
  const float *first, *second;
  float *d_first, *d_second;  // d_second null: not wanted
};

// Rows [begin, end) of all samples on `own`'s side, along the entries of `pattern` to the other's.
// kQueries: own's side is that of the queries, whose log_sum and delta are used.
template <bool kQueries>
void backward_side(const GraphAttentionBackwardArgs<float>& args, const CsrView& pattern,
                   const Side& own, const Side& other, int64_t begin, int64_t end) {
  const int64_t width = args.shape.width, heads = args.shape.heads, stride = heads * width;
  const auto scale = static_cast<float>(args.shape.scale);
  HWY_ALIGN float p[kEntries], ds[kEntries];
  for (int64_t row = begin; row < end; ++row)
    for (int64_t h = 0; h < heads; ++h) {
      const int64_t sample = row / pattern.rows, mine = row * stride + h * width;
      const int64_t theirs = sample * pattern.cols * stride + h * width;
      std::fill_n(own.d_first + mine, width, 0.f);
      if (!kQueries) std::fill_n(own.d_second + mine, width, 0.f);
      for_entries(pattern, row % pattern.rows, [&](const int32_t* column, int64_t count) {
        for (int64_t t = 0; t < count; ++t) {
          const int64_t at = theirs + column[t] * stride;
          const int64_t query = kQueries ? row : sample * pattern.cols + column[t];
          p[t] = scale * dot(own.first + mine, other.first + at, width) -
                 args.log_sum[query * heads + h];
          ds[t] = dot(own.second + mine, other.second + at, width) - args.delta[query * heads + h];
        }
        for_vectors(count, [&](auto io, int64_t t) {
          const V e = exp(io.load(p + t));
          io.store(e, p + t);
          io.store(hn::Mul(hn::Mul(e, io.load(ds + t)), hn::Set(D(), scale)), ds + t);
        });
        add_rows(ds, column, count, other.first + theirs, stride, width, 1.f, own.d_first + mine);
        if (!kQueries)
          add_rows(p, column, count, other.second + theirs, stride, width, 1.f,
                   own.d_second + mine);
      });
    }
}

Side queries(const GraphAttentionBackwardArgs<float>& args) {
  return {args.q, args.g, args.dq, nullptr};
}
Side keys(const GraphAttentionBackwardArgs<float>& args) {
  return {args.k, args.v, args.dk, args.dv};
}

void backward_queries(const GraphAttentionBackwardArgs<float>& args, int64_t first, int64_t last) {
  const int64_t width = args.shape.width, heads = args.shape.heads;
  for (int64_t saved = first * heads; saved < last * heads; ++saved)
    args.delta[saved] = dot(args.g + saved * width, args.out + saved * width, width);
  backward_side<true>(args, args.pattern, queries(args), keys(args), first, last);
}
void backward_keys(const GraphAttentionBackwardArgs<float>& args, int64_t first, int64_t last) {
  backward_side<false>(args, args.transposed, keys(args), queries(args), first, last);
}

}  // namespace
}  // namespace stillpoint::kernels::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace stillpoint::kernels::cpu {
namespace {

HWY_EXPORT(forward_rows);
HWY_EXPORT(backward_queries);
HWY_EXPORT(backward_keys);

// Rows a chunk: 65536 numbers read, about 20 us.
int64_t grain(const CsrView& pattern, const GraphAttentionShape& s) {
  const int64_t degree = pattern.entries / std::max<int64_t>(1, pattern.rows) + 1;
  return std::max<int64_t>(1, 65536 / (degree * s.heads * s.width));
}

}  // namespace

void graph_attention(const GraphAttentionArgs<float>& args) {
  parallel_for(args.shape.batch * args.pattern.rows, grain(args.pattern, args.shape),
               [&](int64_t first, int64_t last) {
                 HWY_DYNAMIC_DISPATCH(forward_rows)(args, first, last);
               });
}

void graph_attention_backward(const GraphAttentionBackwardArgs<float>& args) {
  parallel_for(args.shape.batch * args.pattern.rows, grain(args.pattern, args.shape),
               [&](int64_t first, int64_t last) {
                 HWY_DYNAMIC_DISPATCH(backward_queries)(args, first, last);
               });
  parallel_for(args.shape.batch * args.pattern.cols, grain(args.transposed, args.shape),
               [&](int64_t first, int64_t last) {
                 HWY_DYNAMIC_DISPATCH(backward_keys)(args, first, last);
               });
}

}  // namespace stillpoint::kernels::cpu
#endif  // HWY_ONCE
