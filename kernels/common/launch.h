// Launching kernels, and what every kernel needs, in one form for nvcc and for the emulation.
// For .cu files only.
//
//   __global__ void scale(float* x, float a, int64_t n) {
//     for (int64_t i = global_thread(); i < n; i += grid_threads()) x[i] *= a;
//   }
//   return launch(scale, blocks_for(n, 256), 256, 0, stream, x, a, n);
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "kernels/common/status.h"
#include "kernels/common/stream.h"

#ifdef STILLPOINT_CUDA_EMULATED
#include "kernels/emulation/launch.h"
#endif

// A static array in shared memory: STILLPOINT_SHARED(float[32][33], tile);
#ifdef STILLPOINT_CUDA_EMULATED
#define STILLPOINT_SHARED(type, name)                                                  \
  using name##_type = type;                                                            \
  static_assert(std::is_trivially_default_constructible_v<name##_type>);               \
  static ::stillpoint::emulation::SharedArray name##_array{#name, sizeof(name##_type), \
                                                           alignof(name##_type)};      \
  name##_type& name =                                                                  \
      *static_cast<name##_type*>(::stillpoint::emulation::shared_array(name##_array))
#else
#define STILLPOINT_SHARED(type, name) \
  using name##_type = type;           \
  __shared__ name##_type name
#endif

namespace stillpoint::kernels::cuda {

inline constexpr unsigned kFullMask = 0xffffffffu;  // every lane of a warp
inline constexpr int kWarpSize = 32;

// Starts `kernel`; a launch that CUDA refuses is reported at once. Arguments convert to the
// kernel's parameter types as in a call. Grids and blocks of zero threads are refused: an op with
// nothing to do does not launch. More than 48 KiB of shared memory is asked for here.
template <class... P>
Status launch(void (*kernel)(P...), dim3 grid, dim3 block, size_t shared_bytes, Stream stream,
              std::type_identity_t<P>... arguments) {
  constexpr size_t kSharedWithoutAsking = 48 * 1024;
  const auto status = [kernel](cudaError_t code) {
    Status result{code};
    if (code != cudaSuccess) {
      (void)cudaFuncGetName(&result.call, reinterpret_cast<const void*>(kernel));
      (void)cudaGetLastError();  // reported here: not to be taken for a failure of the next launch
    }
    return result;
  };
  if (shared_bytes > kSharedWithoutAsking) {
    const cudaError_t code = cudaFuncSetAttribute(
        kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared_bytes));
    if (code != cudaSuccess) return status(code);
  }
#ifdef STILLPOINT_CUDA_EMULATED
  (void)emulation::launch_kernel(kernel, grid, block, shared_bytes, stream, arguments...);
#else
  // clang-format off
  kernel<<<grid, block, shared_bytes, stream>>>(arguments...);
  // clang-format on
#endif
  return status(cudaGetLastError());
}

// Blocks of `block` threads for n elements, one per thread, or more where n asks for more than
// `max_blocks`: kernels therefore stride by grid_threads(). At least one.
inline unsigned blocks_for(int64_t n, int block, int64_t max_blocks = 65536) {
  const int64_t blocks = (n + block - 1) / block;
  return static_cast<unsigned>(blocks < 1 ? 1 : blocks < max_blocks ? blocks : max_blocks);
}

// The dynamic shared memory of the block, aligned to 16 bytes.
template <class T>
__device__ __forceinline__ T* dynamic_shared() {
  static_assert(alignof(T) <= 16);
#ifdef STILLPOINT_CUDA_EMULATED
  return static_cast<T*>(emulation::dynamic_shared());
#else
  extern __shared__ __align__(16) unsigned char stillpoint_dynamic_shared[];
  return reinterpret_cast<T*>(stillpoint_dynamic_shared);
#endif
}

// The thread's number in a one-dimensional grid, and how many threads the grid has.
__device__ __forceinline__ int64_t global_thread() {
  return static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}
__device__ __forceinline__ int64_t grid_threads() {
  return static_cast<int64_t>(gridDim.x) * blockDim.x;
}

// The thread's number in its block, counted along x, then y, then z; and how many the block has.
__device__ __forceinline__ int block_thread() {
  return static_cast<int>((threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x);
}
__device__ __forceinline__ int block_threads() {
  return static_cast<int>(blockDim.x * blockDim.y * blockDim.z);
}

}  // namespace stillpoint::kernels::cuda
