// Reductions and scans over the lanes of a warp and the threads of a block. Every lane of the warp,
// or thread of the block, must call; block sizes are multiples of 32. The order of the additions is
// fixed by the block size, so that results are the same bit for bit in every run.
#pragma once

#include "kernels/common/launch.h"

namespace stillpoint::kernels::cuda {

// Operations. A NaN wins a maximum or minimum from either side.
struct Sum {
  template <class T>
  __device__ __forceinline__ T operator()(T a, T b) const {
    return a + b;
  }
};
struct Max {
  template <class T>
  __device__ __forceinline__ T operator()(T a, T b) const {
    return a > b || a != a ? a : b;
  }
};
struct Min {
  template <class T>
  __device__ __forceinline__ T operator()(T a, T b) const {
    return a < b || a != a ? a : b;
  }
};

// The reduction over each group of kWidth neighbouring lanes, in every lane of the group.
template <int kWidth = kWarpSize, class T, class Op>
__device__ __forceinline__ T warp_reduce(T value, Op op) {
  static_assert(kWidth >= 1 && kWidth <= kWarpSize && (kWidth & (kWidth - 1)) == 0);
#pragma unroll
  for (int offset = kWidth / 2; offset > 0; offset /= 2) {
    value = op(value, __shfl_xor_sync(kFullMask, value, offset));
  }
  return value;
}

template <int kWidth = kWarpSize, class T>
__device__ __forceinline__ T warp_sum(T value) {
  return warp_reduce<kWidth>(value, Sum{});
}

template <int kWidth = kWarpSize, class T>
__device__ __forceinline__ T warp_max(T value) {
  return warp_reduce<kWidth>(value, Max{});
}

// Lane l gets the sum of the values of lanes 0 to l.
template <class T>
__device__ __forceinline__ T warp_inclusive_sum(T value) {
  const int lane = block_thread() % kWarpSize;
#pragma unroll
  for (int offset = 1; offset < kWarpSize; offset *= 2) {
    const T before = __shfl_up_sync(kFullMask, value, offset);
    if (lane >= offset) value = before + value;
  }
  return value;
}

// The reduction over the block, in every thread. `identity` leaves the other operand as it is.
template <class T, class Op>
__device__ __forceinline__ T block_reduce(T value, Op op, T identity) {
  STILLPOINT_SHARED(T[kWarpSize], partial);
  const int thread = block_thread();
  const int lane = thread % kWarpSize, warp = thread / kWarpSize;
  const int warps = block_threads() / kWarpSize;
  value = warp_reduce(value, op);
  __syncthreads();  // an earlier call's partial results have been read
  if (lane == 0) partial[warp] = value;
  __syncthreads();
  return warp_reduce(lane < warps ? partial[lane] : identity, op);
}

template <class T>
__device__ __forceinline__ T block_sum(T value) {
  return block_reduce(value, Sum{}, T{0});
}

// `lowest` is no larger than any value: -INFINITY for floating point.
template <class T>
__device__ __forceinline__ T block_max(T value, T lowest) {
  return block_reduce(value, Max{}, lowest);
}

// Thread t gets the sum of the values of threads 0 to t - 1; `total` that of all.
template <class T>
__device__ __forceinline__ T block_exclusive_sum(T value, T& total) {
  STILLPOINT_SHARED(T[kWarpSize], partial);
  const int thread = block_thread();
  const int lane = thread % kWarpSize, warp = thread / kWarpSize;
  const int warps = block_threads() / kWarpSize;
  const T inclusive = warp_inclusive_sum(value);
  __syncthreads();  // an earlier call's partial results have been read
  if (lane == kWarpSize - 1) partial[warp] = inclusive;
  __syncthreads();
  const T sums = warp_inclusive_sum(lane < warps ? partial[lane] : T{0});
  total = __shfl_sync(kFullMask, sums, kWarpSize - 1);
  const T before = __shfl_sync(kFullMask, sums, warp > 0 ? warp - 1 : 0);
  // The neighbour's inclusive sum rather than inclusive - value: floating point does not cancel.
  const T left = __shfl_up_sync(kFullMask, inclusive, 1);
  return (warp > 0 ? before : T{0}) + (lane > 0 ? left : T{0});
}

}  // namespace stillpoint::kernels::cuda
