#include "tests/emulation/planted.h"

#include <cuda_runtime.h>

#include <map>

#include "kernels/common/index.cuh"
#include "kernels/common/reduce.cuh"

using stillpoint::kernels::Status;
using stillpoint::kernels::Stream;
using namespace stillpoint::kernels::cuda;

namespace PLANTED_NAMESPACE {
namespace {

constexpr int kBlock = 256;

// ---- correct --------------------------------------------------------------------------------

__global__ void counts_down(unsigned long long condition, float* x, float* y) {
  if (threadIdx.x != 0) return;
  x[0] -= 1;
  y[0] += 1;
  cudaGraphSetConditional(condition, x[0] > 0);
}
__global__ void sets_twice(unsigned long long condition, float*, float*) {
  if (threadIdx.x < 2) cudaGraphSetConditional(condition, 0);
}

__global__ void tree_sum(const float* x, float* y) {
  STILLPOINT_SHARED(float[kBlock], part);
  const int t = static_cast<int>(threadIdx.x);
  part[t] = x[blockIdx.x * kBlock + threadIdx.x];
  __syncthreads();
  for (int step = kBlock / 2; step > 0; step /= 2) {
    if (t < step) part[t] += part[t + step];
    __syncthreads();
  }
  if (t == 0) y[blockIdx.x] = part[0];
}

// A 32x32 matrix by a 32x8 block.
__global__ void transpose(const float* x, float* y) {
  STILLPOINT_SHARED(float[32][33], tile);
  for (unsigned r = threadIdx.y; r < 32; r += 8) tile[r][threadIdx.x] = x[r * 32 + threadIdx.x];
  __syncthreads();
  for (unsigned r = threadIdx.y; r < 32; r += 8) y[r * 32 + threadIdx.x] = tile[threadIdx.x][r];
}

__global__ void atomic_sum(const float* x, float* y) {
  STILLPOINT_SHARED(float, total);
  if (threadIdx.x == 0) total = 0.0f;
  __syncthreads();
  atomicAdd(&total, x[blockIdx.x * kBlock + threadIdx.x]);
  __syncthreads();
  if (threadIdx.x == 0) atomicAdd(&y[0], total);
}

__global__ void scan(const float* x, float* y) {
  STILLPOINT_SHARED(float[kBlock / 32], sums);
  const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  float sum = x[threadIdx.x];
  for (unsigned offset = 1; offset < 32; offset *= 2) {
    const float before = __shfl_up_sync(kFullMask, sum, offset);
    if (lane >= offset) sum += before;
  }
  if (lane == 31) sums[warp] = sum;
  __syncthreads();
  for (unsigned w = 0; w < warp; ++w) sum += sums[w];
  y[threadIdx.x + 1] = sum;
  if (threadIdx.x == 0) y[0] = 0.0f;
}

__global__ void swap_neighbours(const float* x, float* y) {
  STILLPOINT_SHARED(float[kBlock], buffer);
  buffer[threadIdx.x] = x[threadIdx.x];
  __syncwarp();
  y[threadIdx.x] = buffer[threadIdx.x ^ 1];
}

// Each half of a warp on its own, then both together.
__global__ void two_halves(const float* x, float* y) {
  const unsigned lane = threadIdx.x % 32;
  const unsigned half = lane < 16 ? 0x0000ffffu : 0xffff0000u;
  float value = x[threadIdx.x];
  if (lane >= 16) {
    value += __shfl_xor_sync(half, value, 1);
  } else {
    value -= __shfl_xor_sync(half, value, 2);
  }
  y[threadIdx.x] = __shfl_xor_sync(kFullMask, value, 16);
}

__global__ void wide(const float* x, float* y) {
  float4* shared = dynamic_shared<float4>();
  if (threadIdx.x < kBlock / 4) {
    shared[threadIdx.x] = reinterpret_cast<const float4*>(x)[threadIdx.x];
  }
  __syncthreads();
  y[threadIdx.x] = reinterpret_cast<const float*>(shared)[kBlock - 1 - threadIdx.x];
}

// ---- order ----------------------------------------------------------------------------------

__global__ void missing_syncthreads(const float* x, float* y) {
  STILLPOINT_SHARED(float[kBlock], buffer);
  buffer[threadIdx.x] = x[threadIdx.x];
  y[threadIdx.x] = buffer[kBlock - 1 - threadIdx.x];
}

__global__ void missing_syncwarp(const float* x, float* y) {
  STILLPOINT_SHARED(float[kBlock], buffer);
  buffer[threadIdx.x] = x[threadIdx.x];
  y[threadIdx.x] = buffer[threadIdx.x ^ 1];
}

// The second round overwrites what slower threads still read.
__global__ void missing_second_syncthreads(const float* x, float* y) {
  STILLPOINT_SHARED(float[kBlock], buffer);
  float sum = 0.0f;
  for (int round = 0; round < 2; ++round) {
    buffer[threadIdx.x] = x[round * kBlock + threadIdx.x];
    __syncthreads();
    sum += buffer[kBlock - 1 - threadIdx.x];
  }
  y[threadIdx.x] = sum;
}

__global__ void shuffle_as_fence(const float* x, float* y) {
  STILLPOINT_SHARED(float[kBlock], buffer);
  buffer[threadIdx.x] = x[threadIdx.x];
  (void)__shfl_sync(kFullMask, 0, 0);
  y[threadIdx.x] = buffer[threadIdx.x ^ 1];
}

__global__ void everybody_writes_one(const float* x, float* y) {
  STILLPOINT_SHARED(float, last);
  last = x[threadIdx.x];
  __syncthreads();
  y[threadIdx.x] = last;
}

__global__ void lost_update(const float* x, float* y) { y[0] += x[threadIdx.x]; }

__global__ void blocks_overlap(const float* x, float* y) { y[threadIdx.x] = x[global_thread()]; }

__global__ void plain_beside_atomic(const float* x, float* y) {
  if (threadIdx.x == 0) {
    y[0] = x[0];
  } else {
    atomicAdd(&y[0], x[threadIdx.x]);
  }
}

// In place, and a block reads what its neighbour may have replaced already.
__global__ void in_place(float* x, float* y) {
  const int64_t i = global_thread();
  const float neighbour = x[(i + kBlock) % (2 * kBlock)];
  y[i] = neighbour;
  x[i] = neighbour;
}

// ---- barriers and warps ---------------------------------------------------------------------

__global__ void barrier_in_one_branch(const float* x, float* y) {
  if (threadIdx.x < kBlock / 2) __syncthreads();
  y[threadIdx.x] = x[threadIdx.x];
}

__global__ void return_before_barrier(const float* x, float* y) {
  if (threadIdx.x >= kBlock - 10) return;
  __syncthreads();
  y[threadIdx.x] = x[threadIdx.x];
}

__global__ void two_barriers(const float* x, float* y) {
  if (threadIdx.x < kBlock / 2) {
    __syncthreads();
    y[threadIdx.x] = x[threadIdx.x];
  } else {
    __syncthreads();
    y[threadIdx.x] = -x[threadIdx.x];
  }
}

// Two calls of one helper, in which the barriers and shuffles are the same.
__global__ void block_sum_in_two_branches(const float* x, float* y) {
  if (threadIdx.x < kBlock / 2) {
    y[threadIdx.x] = block_sum(x[threadIdx.x]);
  } else {
    y[threadIdx.x] = -block_sum(x[threadIdx.x]);
  }
}

__global__ void warp_sum_in_two_branches(const float* x, float* y) {
  if (threadIdx.x % 32 < 16) {
    y[threadIdx.x] = warp_sum(x[threadIdx.x]);
  } else {
    y[threadIdx.x] = -warp_sum(x[threadIdx.x]);
  }
}

__global__ void barrier_against_shuffle(const float* x, float* y) {
  float value = x[threadIdx.x];
  if (threadIdx.x < 16) {
    value += __shfl_xor_sync(kFullMask, value, 1);
  } else {
    __syncthreads();
  }
  y[threadIdx.x] = value;
}

__global__ void full_mask_in_half_a_warp(const float* x, float* y) {
  float value = x[threadIdx.x];
  if (threadIdx.x % 32 < 16) value += __shfl_xor_sync(kFullMask, value, 1);
  y[threadIdx.x] = value;
}

__global__ void mask_leaves_itself_out(const float* x, float* y) {
  y[threadIdx.x] = __shfl_down_sync(0x0000ffffu, x[threadIdx.x], 1);
}

__global__ void two_shuffles_for_one_mask(const float* x, float* y) {
  float value = x[threadIdx.x];
  if (threadIdx.x % 2 == 0) {
    value = __shfl_xor_sync(kFullMask, value, 1);
  } else {
    value = __shfl_down_sync(kFullMask, value, 1);
  }
  y[threadIdx.x] = value;
}

__global__ void width_of_three(const float* x, float* y) {
  y[threadIdx.x] = __shfl_sync(kFullMask, x[threadIdx.x], 0, 3);
}

__global__ void active_mask_as_full(const float* x, float* y) {
  y[threadIdx.x] = x[threadIdx.x] + __shfl_xor_sync(__activemask(), x[threadIdx.x], 1);
}

__global__ void traps(const float* x, float* y) {
  if (x[threadIdx.x] == 0.0f) __trap();
  y[threadIdx.x] = 1.0f;
}

// ---- memory ---------------------------------------------------------------------------------

__global__ void uninitialised_shared(const float* x, float* y) {
  STILLPOINT_SHARED(float[kBlock + 1], buffer);
  buffer[threadIdx.x] = x[threadIdx.x];
  __syncthreads();
  y[threadIdx.x] = buffer[threadIdx.x + 1];
}

__global__ void uninitialised_device(const float*, float* y) { y[threadIdx.x] += 1.0f; }

__global__ void shared_index_past_end(const float* x, float* y) {
  STILLPOINT_SHARED(float[kBlock], buffer);
  buffer[threadIdx.x + 1] = x[threadIdx.x];
  __syncthreads();
  y[threadIdx.x] = buffer[threadIdx.x];
}

__global__ void dynamic_shared_past_end(const float* x, float* y) {
  float* buffer = dynamic_shared<float>();
  buffer[threadIdx.x + 1] = x[threadIdx.x];
  __syncthreads();
  y[threadIdx.x] = buffer[threadIdx.x];
}

// x[0] is 0. Two floats: of the eight bytes before an array that is aligned to four, ASan cannot
// mark four.
__global__ void shared_before_start(const float* x, float* y) {
  STILLPOINT_SHARED(float[32], first);
  STILLPOINT_SHARED(float[32], second);
  first[threadIdx.x] = second[threadIdx.x] = x[threadIdx.x];
  __syncthreads();
  float* p = second;
  if (threadIdx.x == 0) p[-2 - static_cast<int>(x[0])] = 1.0f;
  y[threadIdx.x] = first[threadIdx.x] + second[threadIdx.x];
}

__global__ void dynamic_shared_before_start(const float* x, float* y) {
  float* buffer = dynamic_shared<float>();
  buffer[static_cast<int>(threadIdx.x) - 8] = x[threadIdx.x];
  y[threadIdx.x] = x[threadIdx.x];
}

// 40000 bytes, beside the dynamic ones.
__device__ void use_static(const float* x, float* y) {
  STILLPOINT_SHARED(float[10000], buffer);
  buffer[threadIdx.x] = x[threadIdx.x];
  __syncthreads();
  y[threadIdx.x] = buffer[threadIdx.x];
}

__global__ void static_beside_dynamic(const float* x, float* y) { use_static(x, y); }
__global__ void static_beside_too_much(const float* x, float* y) { use_static(x, y); }
__global__ void static_beside_far_too_much(const float* x, float* y) { use_static(x, y); }

// The address of what it writes is in x: no argument names the allocation.
__global__ void write_through_table(const float* x, float*) {
  float* const target = *reinterpret_cast<float* const*>(x);
  target[0] = 1.0f;
}

__global__ void write_past_end(const float* x, float* y) { y[kPlantedSize] = x[0]; }
__global__ void read_past_end(const float* x, float* y) { y[0] = x[kPlantedSize + 1]; }
__global__ void write_before_start(const float* x, float* y) { y[-1] = x[0]; }
// x[0] is 0.
__global__ void write_through_null(const float* x, float*) {
  *reinterpret_cast<float*>(static_cast<uintptr_t>(x[0])) = x[1];
}
__global__ void copies(const float* x, float* y) { y[threadIdx.x] = x[threadIdx.x]; }

__global__ void misaligned_vector(const float* x, float* y) {
  const float4 v = *reinterpret_cast<const float4*>(x + 1);
  y[threadIdx.x] = v.x + v.y + v.z + v.w;
}

// A float array in shared memory promises four bytes of alignment, not sixteen.
__global__ void misaligned_shared_vector(const float* x, float* y) {
  STILLPOINT_SHARED(float[4 * 32], buffer);
  for (int i = 0; i < 4; ++i) buffer[4 * threadIdx.x + i] = x[4 * threadIdx.x + i];
  y[threadIdx.x] = reinterpret_cast<const float4*>(buffer)[threadIdx.x].x;
}

__device__ float deep(const float* x, int depth) {
  volatile float frame[1024];
  frame[depth % 1024] = x[0];
  return depth == 0 ? frame[0] : deep(x, depth - 1) + frame[depth % 1024];
}
__global__ void endless_stack(const float* x, float* y) { y[threadIdx.x] = deep(x, 1 << 20); }

__global__ void empty_kernel() {}

}  // namespace

Status launch_empty(unsigned grid, unsigned block, size_t shared_bytes, Stream stream) {
  return launch(empty_kernel, grid, block, shared_bytes, stream);
}

size_t index_bytes(int64_t elements) {
  size_t bytes = 0;
  (void)with_index(elements, [&]<class Index>() {
    bytes = sizeof(Index);
    return Status{};
  });
  return bytes;
}

Status run(std::string_view name, float* x, float* y, Stream stream) {
  using Kernel = void (*)(const float*, float*);
  struct Case {
    Kernel kernel;
    unsigned blocks = 1;
    dim3 block = kBlock;
    size_t shared = 0;
  };
  static const std::map<std::string_view, Case> cases = {
      {"tree_sum", {tree_sum, 4}},
      {"transpose", {transpose, 1, dim3(32, 8)}},
      {"atomic_sum", {atomic_sum, 4}},
      {"scan", {scan}},
      {"swap_neighbours", {swap_neighbours}},
      {"two_halves", {two_halves}},
      {"wide", {wide, 1, kBlock, kBlock * sizeof(float)}},
      {"missing_syncthreads", {missing_syncthreads}},
      {"missing_syncwarp", {missing_syncwarp}},
      {"missing_second_syncthreads", {missing_second_syncthreads}},
      {"shuffle_as_fence", {shuffle_as_fence}},
      {"everybody_writes_one", {everybody_writes_one}},
      {"lost_update", {lost_update}},
      {"blocks_overlap", {blocks_overlap, 2}},
      {"plain_beside_atomic", {plain_beside_atomic}},
      {"barrier_in_one_branch", {barrier_in_one_branch}},
      {"return_before_barrier", {return_before_barrier}},
      {"two_barriers", {two_barriers}},
      {"block_sum_in_two_branches", {block_sum_in_two_branches}},
      {"warp_sum_in_two_branches", {warp_sum_in_two_branches}},
      {"barrier_against_shuffle", {barrier_against_shuffle}},
      {"full_mask_in_half_a_warp", {full_mask_in_half_a_warp}},
      {"mask_leaves_itself_out", {mask_leaves_itself_out}},
      {"two_shuffles_for_one_mask", {two_shuffles_for_one_mask}},
      {"width_of_three", {width_of_three}},
      {"active_mask_as_full", {active_mask_as_full}},
      {"traps", {traps}},
      {"uninitialised_shared", {uninitialised_shared}},
      {"uninitialised_device", {uninitialised_device}},
      {"shared_index_past_end", {shared_index_past_end}},
      {"dynamic_shared_past_end", {dynamic_shared_past_end, 1, kBlock, kBlock * sizeof(float)}},
      {"shared_before_start", {shared_before_start, 1, 32}},
      {"dynamic_shared_before_start", {dynamic_shared_before_start, 1, 8, 32}},
      {"static_beside_dynamic", {static_beside_dynamic, 1, 32, 9152}},
      {"static_beside_too_much", {static_beside_too_much, 1, 32, 9153}},
      {"static_beside_far_too_much", {static_beside_far_too_much, 1, 32, 200000}},
      {"write_through_table", {write_through_table, 1, 1}},
      {"write_past_end", {write_past_end, 1, 1}},
      {"read_past_end", {read_past_end, 1, 1}},
      {"write_before_start", {write_before_start, 1, 1}},
      {"write_through_null", {write_through_null, 1, 1}},
      {"copies", {copies}},
      {"misaligned_vector", {misaligned_vector, 1, 1}},
      {"misaligned_shared_vector", {misaligned_shared_vector, 1, 32}},
      {"endless_stack", {endless_stack, 1, 1}},
  };
  if (name == "in_place") return launch(in_place, 2, kBlock, 0, stream, x, y);
  const auto found = cases.find(name);
  if (found == cases.end()) return {cudaErrorInvalidValue, Status::Source::cuda, "no such kernel"};
  const Case& c = found->second;
  return launch(c.kernel, c.blocks, c.block, c.shared, stream, x, y);
}

Status run_in_loop(std::string_view kernel, unsigned long long condition, float* x, float* y,
                   Stream stream) {
  return launch(kernel == "counts_down" ? counts_down : sets_twice, 1, 32, 0, stream, condition, x,
                y);
}

}  // namespace PLANTED_NAMESPACE
