// topk on CUDA: a warp goes along a row. It keeps the 64 largest so far, two of them a lane, in
// order; what is greater than the least that is wanted waits in shared memory until there are 32,
// which are sorted and merged with those by shuffles.
#include "kernels/common/exact.h"
#include "kernels/common/index.cuh"
#include "kernels/common/launch.h"
#include "kernels/topk/topk.h"

namespace stillpoint::kernels::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kWarps = kThreads / kWarpSize;
// What a multiprocessor should hold at once: 64 registers a thread. Left to itself ptxas tries for
// more and spills.
constexpr int kBlocks = 8;
constexpr int kKept = 2 * kWarpSize;  // of a pass along the row
constexpr int kGroup = 4;             // numbers of a lane loaded together
constexpr int kWaiting = (kGroup + 1) * kWarpSize;

// Of a number and its index: the greater comes first. 0 is less than any.
using Key = uint64_t;

__device__ __forceinline__ Key key_of(float x, uint32_t j) {
  const auto bits = static_cast<uint32_t>(exact::bits_of(exact::add(x, 0.f)));  // -0 as 0
  uint32_t order = bits ^ (bits >> 31 != 0 ? 0xffffffffu : 0x80000000u);
  if (x != x) order = 0xffffffffu;
  return Key{order} << 32 | ~j;
}
__device__ __forceinline__ uint32_t index_of(Key key) { return ~static_cast<uint32_t>(key); }

__device__ __forceinline__ int lane_of_thread() {
  return static_cast<int>(threadIdx.x) % kWarpSize;
}
// The greater of a lane's key and its partner's goes to the lane that lacks the bit `partner`, or
// to the other if `ascending`.
__device__ __forceinline__ Key exchange(Key key, int partner, bool ascending) {
  const Key other = __shfl_xor_sync(kFullMask, key, partner);
  const bool take_greater = ((lane_of_thread() & partner) == 0) != ascending;
  return (key > other) == take_greater ? key : other;
}
// Lanes that ascend and then descend, or the other way round: in descending order.
__device__ __forceinline__ Key merge(Key key) {
#pragma unroll
  for (int partner = kWarpSize / 2; partner > 0; partner /= 2) key = exchange(key, partner, false);
  return key;
}
__device__ __forceinline__ Key sort(Key key) {
#pragma unroll
  for (int size = 2; size < kWarpSize; size *= 2)
#pragma unroll
    for (int partner = size / 2; partner > 0; partner /= 2)
      key = exchange(key, partner, (lane_of_thread() & size) != 0);
  return merge(key);
}
__device__ __forceinline__ Key reversed(Key key) {
  return __shfl_xor_sync(kFullMask, key, kWarpSize - 1);
}

// The largest of a row so far, in descending order: `first` of all lanes, then `second`.
struct Largest {
  Key first, second;

  __device__ __forceinline__ void add(Key key, int wanted) {
    key = reversed(sort(key));
    if (wanted > kWarpSize) {
      second = merge(second > key ? second : key);
      key = reversed(second);
      second = merge(first < key ? first : key);
    }
    first = merge(first > key ? first : key);
  }
  __device__ __forceinline__ Key least(int wanted) const {
    return __shfl_sync(kFullMask, wanted > kWarpSize ? second : first, (wanted - 1) % kWarpSize);
  }
};

// The `wanted` largest of the keys of a row that are at most `limit`. `waiting` is the warp's.
__device__ Largest largest_of_row(const float* x, uint32_t n, int wanted, Key limit, Key* waiting) {
  const auto lane = static_cast<uint32_t>(lane_of_thread());
  Largest largest{0, 0};
  Key threshold = 0;
  uint32_t count = 0;  // that wait
  for (uint32_t begin = 0; begin < n; begin += kGroup * kWarpSize) {
    float v[kGroup];
#pragma unroll
    for (int u = 0; u < kGroup; ++u) {
      const uint32_t j = begin + u * kWarpSize + lane;
      v[u] = j < n ? x[j] : 0.f;
    }
#pragma unroll
    for (int u = 0; u < kGroup; ++u) {
      const uint32_t j = begin + u * kWarpSize + lane;
      const Key key = key_of(v[u], j);
      const bool passes = j < n && key > threshold && key <= limit;
      const unsigned passing = __ballot_sync(kFullMask, passes);
      if (passes) waiting[count + __popc(passing & ((1u << lane) - 1))] = key;
      count += static_cast<uint32_t>(__popc(passing));
    }
    const bool last = begin + kGroup * kWarpSize >= n;
    while (count >= kWarpSize || (last && count > 0)) {
      __syncwarp();  // all have written
      const uint32_t left = count > kWarpSize ? count - kWarpSize : 0;
      const Key key = left + lane < count ? waiting[left + lane] : 0;
      __syncwarp();  // all have read
      count = left;
      largest.add(key, wanted);
      threshold = largest.least(wanted);
    }
  }
  return largest;
}

__global__ void __launch_bounds__(kThreads, kBlocks) topk_kernel(TopkArgs<float> args) {
  const TopkShape& s = args.shape;
  STILLPOINT_SHARED(Key[kWarps][kWaiting], waiting);
  const int lane = lane_of_thread();
  for (int64_t r = global_thread() / kWarpSize; r < s.rows; r += grid_threads() / kWarpSize) {
    const float* x = args.x + r * s.n;
    Key limit = ~Key{0};
    for (int64_t done = 0; done < s.k; done += kKept) {
      const int wanted = static_cast<int>(min(int64_t{kKept}, s.k - done));
      const Largest largest = largest_of_row(x, static_cast<uint32_t>(s.n), wanted, limit,
                                             waiting[threadIdx.x / kWarpSize]);
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int t = lane + half * kWarpSize;
        if (t >= wanted) continue;
        const uint32_t j = index_of(half == 0 ? largest.first : largest.second);
        args.indices[r * s.k + done + t] = static_cast<int32_t>(j);
        args.values[r * s.k + done + t] = x[j];
      }
      limit = largest.least(wanted) - 1;
    }
  }
}

template <class Index>
__global__ void __launch_bounds__(kThreads)
    gather_kernel(TopkGatherArgs<float> args, int64_t total, Index k) {
  for (int64_t e = global_thread(); e < total; e += grid_threads())
    args.out[e] =
        args.x[static_cast<int64_t>(static_cast<Index>(e) / k) * args.shape.n + args.indices[e]];
}

// A warp fills a row, so that it need not wait for others.
__global__ void __launch_bounds__(kThreads) scatter_kernel(TopkScatterArgs<float> args) {
  const TopkShape& s = args.shape;
  const int lane = lane_of_thread();
  for (int64_t r = global_thread() / kWarpSize; r < s.rows; r += grid_threads() / kWarpSize) {
    float* dx = args.dx + r * s.n;
    for (int64_t j = lane; j < s.n; j += kWarpSize) dx[j] = 0.f;
    __syncwarp();  // all zeros are written
    for (int64_t t = r * s.k + lane; t < (r + 1) * s.k; t += kWarpSize)
      dx[args.indices[t]] = args.g[t];
  }
}

}  // namespace

Status topk(const TopkArgs<float>& args, Stream stream) {
  const int64_t rows = args.shape.rows;
  if (rows == 0) return {};
  return launch(topk_kernel, blocks_for(rows * kWarpSize, kThreads), kThreads, 0, stream, args);
}

Status topk_gather(const TopkGatherArgs<float>& args, Stream stream) {
  const int64_t total = args.shape.rows * args.shape.k;
  if (total == 0) return {};
  return with_index(total, [&]<class Index>() {
    return launch(gather_kernel<Index>, blocks_for(total, kThreads), kThreads, 0, stream, args,
                  total, static_cast<Index>(args.shape.k));
  });
}

Status topk_scatter(const TopkScatterArgs<float>& args, Stream stream) {
  const int64_t rows = args.shape.rows;
  if (rows == 0) return {};
  return launch(scatter_kernel, blocks_for(rows * kWarpSize, kThreads), kThreads, 0, stream, args);
}

}  // namespace stillpoint::kernels::cuda
