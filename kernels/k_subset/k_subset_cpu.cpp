// k_subset on the CPU: a row at a time, numbers of heads side by side in vectors.
#include "kernels/k_subset/k_subset.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/k_subset/k_subset_cpu.cpp"
#include <hwy/foreach_target.h>  // IWYU pragma: keep
#include <hwy/highway.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/common/math-inl.h"
#include "kernels/common/parallel.h"
#include "kernels/k_subset/k_subset_row.h"

HWY_BEFORE_NAMESPACE();
namespace stillpoint::kernels::cpu::HWY_NAMESPACE {
namespace {

using namespace kernels::HWY_NAMESPACE;  // vectors and their functions

// What a row in work needs besides its results.
struct Scratch {
  float *x, *heads, *tails;  // [keys]: score, or -inf; chance of heads, of tails
  float* missing;            // [keys]: less the probability that a key is in the set
  float* before;             // [wanted + 1]: chance of wanted - 1 - d heads before a key, at d
  float* from;               // [keys + 1, wanted + 2]: chance of c heads from key j on, at c + 1
  int64_t stride;

  Scratch(float* memory, int64_t keys, int64_t wanted)
      : x(memory),
        heads(x + keys),
        tails(heads + keys),
        missing(tails + keys),
        before(missing + keys),
        from(before + wanted + 1),
        stride(wanted + 2) {}
  float at(int64_t j, int64_t c) const { return from[j * stride + c + 1]; }
};

HWY_INLINE float expected_heads(const float* x, int64_t keys, float shift) {
  const D d;
  V sum = hn::Zero(d);
  for_vectors(keys, [&](auto io, int64_t j) {
    const V y = io.load(x + j, -std::numeric_limits<float>::infinity());
    sum = hn::Add(sum, sigmoid(hn::Add(y, hn::Set(d, shift))));
  });
  return sum_lanes(sum);
}

// The chances of heads and tails of every key, and of any number of heads from each on.
void toss(const KSubsetRow<float>& row, const Scratch& s) {
  const D d;
  for (int64_t j = 0; j < row.keys; ++j)
    s.x[j] = row.drawable(j) ? row.score[j] : -std::numeric_limits<float>::infinity();
  const float shift = k_subset_shift(
      row, [&](float candidate) { return expected_heads(s.x, row.keys, candidate); });
  for_vectors(row.keys, [&](auto io, int64_t j) {
    const V y = hn::Add(io.load(s.x + j), hn::Set(d, shift));
    io.store(sigmoid(y), s.heads + j);
    io.store(sigmoid(hn::Neg(y)), s.tails + j);
  });
  float* to = s.from + row.keys * s.stride;
  std::fill_n(to, s.stride, 0.f);
  to[1] = 1;
  for (int64_t j = row.keys - 1; j >= 0; --j) {
    const float* from = to;
    to -= s.stride;
    to[0] = 0;
    const V p = hn::Set(d, s.heads[j]), q = hn::Set(d, s.tails[j]);
    for_vectors(row.wanted + 1, [&](auto io, int64_t c) {
      io.store(hn::MulAdd(q, io.load(from + c + 1), hn::Mul(p, io.load(from + c))), to + c + 1);
    });
  }
}

void inclusions(const KSubsetRow<float>& row, const Scratch& s) {
  const D d;
  const int64_t wanted = row.wanted;
  for (int64_t c = 0; c <= wanted; ++c) s.before[c] = c == wanted - 1 ? 1.f : 0.f;
  const float all = s.at(0, wanted);
  for (int64_t j = 0; j < row.keys; ++j) {
    const V p = hn::Set(d, s.heads[j]), q = hn::Set(d, s.tails[j]);
    const float* after = s.from + (j + 1) * s.stride + 1;
    V sum = hn::Zero(d);
    for_vectors(wanted, [&](auto io, int64_t c) {
      const V before = io.load(s.before + c);
      sum = hn::MulAdd(before, io.load(after + c), sum);
      io.store(hn::MulAdd(q, before, hn::Mul(p, io.load(s.before + c + 1))), s.before + c);
    });
    s.missing[j] = -(s.heads[j] * sum_lanes(sum) / all);
  }
}

void draw_set(const KSubsetArgs<float>& args, const KSubsetRow<float>& row, const Scratch& s,
              int64_t result) {
  const KSubsetShape& shape = args.shape;
  int32_t* picks = args.indices + result * shape.count;
  float* slope = args.slope + result * row.keys;
  std::copy_n(s.missing, row.keys, slope);
  float* chance = s.x;  // of what each coin shows
  std::copy_n(s.tails, row.keys, chance);
  int64_t found = 0;
  float log_product = 0;
  PhiloxBlock words{};
  for (int64_t j = 0; j < row.keys && found < row.wanted; ++j) {
    const int64_t open = row.wanted - found;
    const float take = s.heads[j] * s.at(j + 1, open - 1) / s.at(j, open);
    if (j % 4 == 0) words = k_subset_words(shape, result, j);
    if (!(k_subset_uniform(words, j) < take)) continue;
    log_product += row.score[j];
    slope[j] += 1;
    chance[j] = s.heads[j];
    picks[found++] = static_cast<int32_t>(j);
  }
  std::fill(picks + found, picks + shape.count, -1);
  const D d;
  V log_chance = hn::Zero(d);
  for_vectors(row.keys, [&](auto io, int64_t j) {
    log_chance = hn::Add(log_chance, log(io.load(chance + j, 1.f)));
  });
  args.log_prob[result] = sum_lanes(log_chance) - std::log(s.at(0, row.wanted));
  args.log_normaliser[result] = log_product - args.log_prob[result];
}

void draw_rows(const KSubsetArgs<float>& args, int64_t first, int64_t last, float* scratch) {
  for (int64_t number = first; number < last; ++number) {
    const KSubsetRow<float> row(args, number);
    const Scratch s(scratch, row.keys, row.wanted);
    const auto prepare = [&] {
      toss(row, s);
      inclusions(row, s);
    };
    k_subset_draws(args, row, number, prepare,
                   [&](int64_t result) { draw_set(args, row, s, result); });
  }
}

}  // namespace
}  // namespace stillpoint::kernels::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace stillpoint::kernels::cpu {
namespace {

HWY_EXPORT(draw_rows);

constexpr int64_t kGrain = 8;  // rows a chunk

int64_t scratch_of_worker(const KSubsetShape& s) {
  return 4 * s.keys + s.count + 1 + (s.keys + 1) * (s.count + 2);
}

}  // namespace

int64_t k_subset_workspace(const KSubsetShape& s) { return num_threads() * scratch_of_worker(s); }

void k_subset(const KSubsetArgs<float>& args) {
  parallel_for(args.shape.rows(), kGrain, [&](int64_t first, int64_t last) {
    float* scratch = args.workspace + worker_index() * scratch_of_worker(args.shape);
    HWY_DYNAMIC_DISPATCH(draw_rows)(args, first, last, scratch);
  });
}

}  // namespace stillpoint::kernels::cpu
#endif  // HWY_ONCE
