// Reductions over the lanes of a warp and the threads of a block. Every lane of the warp,
// or thread of the block, must call; block sizes are multiples of 32. The order of the additions is
// fixed by the block size, so that results are the same bit for bit in every run.
//
// Each takes the place it is called from, by default: the emulation tells threads apart that meet
// in one helper from different calls of it. On a GPU it is empty.
#pragma once

#include "kernels/common/launch.h"

namespace stillpoint::kernels::cuda {

#ifdef STILLPOINT_CUDA_EMULATED
using emulation::Caller;
using emulation::Site;
#else
struct Site {
  __device__ static constexpr Site current() { return {}; }
};
struct Caller {
  __device__ __forceinline__ explicit Caller(Site) {}
};
#endif

// Operations. A NaN wins a maximum from either side.
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

// The reduction over each group of kWidth neighbouring lanes, in every lane of the group.
template <int kWidth = kWarpSize, class T, class Op>
__device__ __forceinline__ T warp_reduce(T value, Op op, Site site = Site::current()) {
  [[maybe_unused]] const Caller caller(site);
  static_assert(kWidth >= 1 && kWidth <= kWarpSize && (kWidth & (kWidth - 1)) == 0);
#pragma unroll
  for (int offset = kWidth / 2; offset > 0; offset /= 2) {
    value = op(value, __shfl_xor_sync(kFullMask, value, offset));
  }
  return value;
}

template <int kWidth = kWarpSize, class T>
__device__ __forceinline__ T warp_sum(T value, Site site = Site::current()) {
  return warp_reduce<kWidth>(value, Sum{}, site);
}

template <int kWidth = kWarpSize, class T>
__device__ __forceinline__ T warp_max(T value, Site site = Site::current()) {
  return warp_reduce<kWidth>(value, Max{}, site);
}

// The reduction over the block, in every thread. `identity` leaves the other operand as it is.
template <class T, class Op>
__device__ __forceinline__ T block_reduce(T value, Op op, T identity, Site site = Site::current()) {
  [[maybe_unused]] const Caller caller(site);
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
__device__ __forceinline__ T block_sum(T value, Site site = Site::current()) {
  return block_reduce(value, Sum{}, T{0}, site);
}

}  // namespace stillpoint::kernels::cuda
