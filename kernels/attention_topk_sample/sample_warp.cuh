// One row's draws from tiles of its scores, on CUDA: a warp per row, a lane per key of the tile.
// All lanes call, and hold the same row; what a row keeps between tiles lies in shared memory.
#pragma once

#include <cmath>

#include "kernels/attention_topk_sample/sample_draws.h"
#include "kernels/common/exact.h"
#include "kernels/common/launch.h"
#include "kernels/common/reduce.cuh"

namespace stillpoint::kernels::cuda::sample_warp {

// Of the scores given to it: the largest, and the sum of exp(score - max). The largest of all would
// not do: what few great scores leave over may be nothing beside it.
struct RowSum {
  float max, sum;

  __device__ __forceinline__ void raise(float score) {
    if (score == max) return;
    sum *= expf(max - score);
    max = score;
  }
  // A score of each lane.
  __device__ __forceinline__ void add(float score) {
    raise(warp_max(Max{}(score, max)));
    sum += warp_sum(expf(score - (max == -INFINITY ? 0.f : max)));
  }
  __device__ __forceinline__ void add_one(float score) {
    raise(Max{}(score, max));
    sum += expf(score - max);
  }
  __device__ __forceinline__ float log() const { return sum == 0.f ? -INFINITY : max + logf(sum); }
  __device__ __forceinline__ bool finite() const { return sum < INFINITY && max < INFINITY; }
};

// What a row has found, in shared memory.
struct Row {
  RowSum sum;
  int32_t found;
  uint64_t total, passed;  // with replacement: of the weights
};

// The largest perturbed scores so far, largest first; of equals, the earliest.
struct Largest {
  float perturbed[kSampleCount], score[kSampleCount];
  int32_t index[kSampleCount];
};
// Or where the draws with replacement aim, in order.
union Draws {
  Largest largest;
  uint64_t target[kSampleCount];
};

// Puts a key where it belongs among `found` others; there is room.
__device__ inline void insert(Largest& list, int found, float p, float s, int32_t j) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  int at = 0;
  float kept_p[2], kept_s[2];
  int32_t kept_j[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int t = lane + half * kWarpSize;
    const bool there = t < found;
    kept_p[half] = there ? list.perturbed[t] : 0.f;
    kept_s[half] = there ? list.score[t] : 0.f;
    kept_j[half] = there ? list.index[t] : 0;
    at += __popc(__ballot_sync(kFullMask, there && kept_p[half] >= p));
  }
  __syncwarp();  // all have read
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int t = lane + half * kWarpSize;
    if (t < at || t >= found) continue;
    list.perturbed[t + 1] = kept_p[half];
    list.score[t + 1] = kept_s[half];
    list.index[t + 1] = kept_j[half];
  }
  if (lane == 0) list.perturbed[at] = p, list.score[at] = s, list.index[at] = j;
  __syncwarp();
}

// The lane's key has score s and perturbed score p; the tile's first key is `first`.
__device__ inline void add_largest(Row& row, Largest& list, int count, float p, float s,
                                   int32_t first) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  RowSum sum = row.sum;
  int found = row.found;
  const auto threshold = [&] { return found < count ? -INFINITY : list.perturbed[count - 1]; };
  unsigned left = __ballot_sync(kFullMask, p > threshold());
  while (left != 0) {
    const int from = __ffs(static_cast<int>(left)) - 1;
    left &= left - 1;
    const float pk = __shfl_sync(kFullMask, p, from), sk = __shfl_sync(kFullMask, s, from);
    if (!(pk > threshold())) continue;  // it was when the tile was compared
    if (found == count) sum.add_one(list.score[--found]);
    insert(list, found++, pk, sk, first + from);
    if (lane == from) s = -INFINITY;
  }
  sum.add(s);
  __syncwarp();  // all have read the row
  if (lane == 0) row.sum = sum, row.found = found;
  __syncwarp();
}

__device__ inline void add_sum(Row& row, float s) {
  RowSum sum = row.sum;
  sum.add(s);
  __syncwarp();
  if (threadIdx.x % kWarpSize == 0) row.sum = sum;
  __syncwarp();
}

__device__ __forceinline__ bool drawable(const Row& row) {
  return row.sum.finite() && row.sum.sum > 0.f;
}
__device__ __forceinline__ uint64_t weight_of(const Row& row, float s) {
  return static_cast<uint64_t>(exact::weight(exact::sub(s, row.sum.max)));
}

__device__ inline void add_total(Row& row, float s) {
  const uint64_t sum = warp_sum(weight_of(row, s));
  if (threadIdx.x % kWarpSize == 0) row.total += sum;
  __syncwarp();
}

// The targets of all draws of a row, in order: each goes where as many are smaller.
__device__ inline void aim(const SampleShape& s, int64_t number, const Row& row, uint64_t* target) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  uint64_t mine[2];
  int rank[2] = {0, 0};
#pragma unroll
  for (int half = 0; half < 2; ++half)
    mine[half] = sample_target(s, number, lane + half * kWarpSize, row.total);
  const int count = static_cast<int>(s.count);
#pragma unroll
  for (int other = 0; other < 2; ++other)
    for (int u = 0; u < kWarpSize; ++u) {
      const uint64_t theirs = __shfl_sync(kFullMask, mine[other], u);
      const int number_of = u + other * kWarpSize;
      if (number_of >= count) continue;
#pragma unroll
      for (int half = 0; half < 2; ++half)
        rank[half] +=
            theirs < mine[half] || (theirs == mine[half] && number_of < lane + half * kWarpSize);
    }
#pragma unroll
  for (int half = 0; half < 2; ++half)
    if (lane + half * kWarpSize < count) target[rank[half]] = mine[half];
  __syncwarp();
}

// Finds the draws whose targets lie in this tile.
__device__ inline void find(Row& row, const uint64_t* target, int count, float s, int32_t first,
                            int32_t* index, float* score) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  uint64_t end = weight_of(row, s);
#pragma unroll
  for (int step = 1; step < kWarpSize; step *= 2) {
    const uint64_t before = __shfl_up_sync(kFullMask, end, static_cast<unsigned>(step));
    if (lane >= step) end += before;
  }
  end += row.passed;
  const uint64_t last = __shfl_sync(kFullMask, end, kWarpSize - 1);
  int found = row.found;
  while (found < count && target[found] < last) {
    const unsigned past = __ballot_sync(kFullMask, target[found] < end);
    if (lane == __ffs(static_cast<int>(past)) - 1) index[found] = first + lane, score[found] = s;
    ++found;
  }
  __syncwarp();  // all have read the row
  if (lane == 0) row.found = found, row.passed = last;
  __syncwarp();
}

}  // namespace stillpoint::kernels::cuda::sample_warp
