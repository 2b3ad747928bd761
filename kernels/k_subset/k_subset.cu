// k_subset on CUDA: a thread per row, the scratch of neighbouring threads interleaved.
#include <cmath>

#include "kernels/common/launch.h"
#include "kernels/k_subset/k_subset.h"
#include "kernels/k_subset/k_subset_row.h"

namespace stillpoint::kernels::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kBlocks = 4;  // of a multiprocessor: 128 registers a thread; with 64 it spills
constexpr int64_t kScratch = int64_t{1} << 26;  // elements, unless one block takes more

int64_t scratch_of_thread(const KSubsetShape& s) {
  return 3 * s.keys + s.count + 1 + (s.keys + 1) * (s.count + 2);
}
unsigned blocks(const KSubsetShape& s) {
  const int64_t most = kScratch / (kThreads * scratch_of_thread(s));
  return blocks_for(s.rows(), kThreads, most < 1 ? 1 : most);
}

// One thread's elements.
struct Strided {
  float* first;
  int64_t step;

  __device__ __forceinline__ float& operator[](int64_t i) const { return first[i * step]; }
  __device__ __forceinline__ Strided operator+(int64_t i) const { return {first + i * step, step}; }
};

__device__ __forceinline__ float sigmoid(float x) { return 1.f / (1.f + expf(-x)); }

// As on the CPU, with plain loops.
struct Scratch {
  Strided heads, tails;  // [keys]
  Strided missing;       // [keys]: less the probability that a key is in the set
  Strided before;        // [wanted + 1]: chance of wanted - 1 - d heads before a key, at d
  Strided from;          // [keys + 1, wanted + 2]: chance of c heads from key j on, at c + 1
  int64_t stride;

  __device__ Scratch(Strided memory, int64_t keys, int64_t wanted)
      : heads(memory),
        tails(heads + keys),
        missing(tails + keys),
        before(missing + keys),
        from(before + (wanted + 1)),
        stride(wanted + 2) {}
  __device__ __forceinline__ float& at(int64_t j, int64_t c) const {
    return from[j * stride + c + 1];
  }
};

__device__ void toss(const KSubsetRow<float>& row, const Scratch& s) {
  const auto x = [&](int64_t j) { return row.drawable(j) ? row.score[j] : -INFINITY; };
  const float shift = k_subset_shift(row, [&](float candidate) {
    float sum = 0.f;
    for (int64_t j = 0; j < row.keys; ++j) sum += sigmoid(x(j) + candidate);
    return sum;
  });
  for (int64_t j = 0; j < row.keys; ++j) {
    s.heads[j] = sigmoid(x(j) + shift);
    s.tails[j] = sigmoid(-(x(j) + shift));
  }
  for (int64_t c = -1; c <= row.wanted; ++c) s.at(row.keys, c) = c == 0 ? 1.f : 0.f;
  for (int64_t j = row.keys - 1; j >= 0; --j) {
    const float p = s.heads[j], q = s.tails[j];
    s.at(j, -1) = 0.f;
    for (int64_t c = 0; c <= row.wanted; ++c)
      s.at(j, c) = fmaf(q, s.at(j + 1, c), p * s.at(j + 1, c - 1));
  }
}

__device__ void inclusions(const KSubsetRow<float>& row, const Scratch& s) {
  const int64_t wanted = row.wanted;
  for (int64_t c = 0; c <= wanted; ++c) s.before[c] = c == wanted - 1 ? 1.f : 0.f;
  const float all = s.at(0, wanted);
  for (int64_t j = 0; j < row.keys; ++j) {
    const float p = s.heads[j], q = s.tails[j];
    float sum = 0.f;
    for (int64_t c = 0; c < wanted; ++c) {
      const float before = s.before[c];
      sum = fmaf(before, s.at(j + 1, c), sum);
      s.before[c] = fmaf(q, before, p * s.before[c + 1]);
    }
    s.missing[j] = -(p * sum / all);
  }
}

__device__ void draw_set(const KSubsetArgs<float>& args, const KSubsetRow<float>& row,
                         const Scratch& s, int64_t result) {
  const KSubsetShape& shape = args.shape;
  int32_t* picks = args.indices + result * shape.count;
  float* slope = args.slope + result * row.keys;
  int64_t found = 0;
  float log_product = 0.f, log_chance = 0.f;
  PhiloxBlock words{};
  for (int64_t j = 0; j < row.keys; ++j) {
    const int64_t open = row.wanted - found;
    const float take = open == 0 ? 0.f : s.heads[j] * s.at(j + 1, open - 1) / s.at(j, open);
    if (j % 4 == 0) words = k_subset_words(shape, result, j);
    const bool taken = k_subset_uniform(words, j) < take;
    slope[j] = s.missing[j] + (taken ? 1.f : 0.f);
    log_chance += logf(taken ? s.heads[j] : s.tails[j]);
    if (!taken) continue;
    log_product += row.score[j];
    picks[found++] = static_cast<int32_t>(j);
  }
  for (int64_t t = found; t < shape.count; ++t) picks[t] = -1;
  args.log_prob[result] = log_chance - logf(s.at(0, row.wanted));
  args.log_normaliser[result] = log_product - args.log_prob[result];
}

__device__ void draw_row(const KSubsetArgs<float>& args, int64_t number, const Strided& scratch) {
  const KSubsetRow<float> row(args, number);
  const Scratch s(scratch, row.keys, row.wanted);
  const auto prepare = [&] {
    toss(row, s);
    inclusions(row, s);
  };
  k_subset_draws(args, row, number, prepare,
                 [&](int64_t result) { draw_set(args, row, s, result); });
}

__global__ void __launch_bounds__(kThreads, kBlocks) forward_kernel(KSubsetArgs<float> args) {
  const Strided scratch{args.workspace + global_thread(), grid_threads()};
  for (int64_t row = global_thread(); row < args.shape.rows(); row += grid_threads())
    draw_row(args, row, scratch);
}

}  // namespace

int64_t k_subset_workspace(const KSubsetShape& s) {
  return s.rows() == 0 ? 0 : int64_t{blocks(s)} * kThreads * scratch_of_thread(s);
}

Status k_subset(const KSubsetArgs<float>& args, Stream stream) {
  if (args.shape.rows() == 0) return {};
  return launch(forward_kernel, blocks(args.shape), kThreads, 0, stream, args);
}

}  // namespace stillpoint::kernels::cuda
