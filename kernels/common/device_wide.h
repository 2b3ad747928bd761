// Algorithms over a whole device, for .cu files: CUB's under nvcc; in the emulation, which cannot
// compile CUB, the standard library's, run when the stream's turn comes. Called with workspace ==
// nullptr they only say how many bytes of it they need. n is below 2^32: 32-bit offsets.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/common/status.h"
#include "kernels/common/stream.h"

#ifdef STILLPOINT_CUDA_EMULATED
#include <algorithm>
#include <cstring>
#include <numeric>
#include <vector>

#include "kernels/emulation/emulation.h"
#else
#include <cub/device/device_radix_sort.cuh>
#include <cub/device/device_scan.cuh>
#endif

namespace stillpoint::kernels::cuda {

// out[i] = in[0] + ... + in[i - 1]; out may be in.
inline Status exclusive_scan(void* workspace, size_t* bytes, const int32_t* in, int32_t* out,
                             int64_t n, Stream stream);

// Sorts pairs by the lowest `key_bits` bits of their keys; equal keys keep their order.
inline Status stable_sort_pairs(void* workspace, size_t* bytes, const uint32_t* keys,
                                uint32_t* sorted_keys, const int32_t* values,
                                int32_t* sorted_values, int64_t n, int key_bits, Stream stream);

#ifdef STILLPOINT_CUDA_EMULATED

namespace twin {
// Queues the work, after which the workspace holds garbage; or asks for a workspace.
template <class Work>
Status run(const char* name, void* workspace, size_t* bytes, size_t needed, Stream stream,
           Work work) {
  if (workspace == nullptr) {
    *bytes = needed;
    return {};
  }
  return {.code = emulation::enqueue(stream, name,
                                     [=] {
                                       work();
                                       std::memset(workspace, 0xff, needed);
                                     }),
          .call = name};
}
}  // namespace twin

inline Status exclusive_scan(void* workspace, size_t* bytes, const int32_t* in, int32_t* out,
                             int64_t n, Stream stream) {
  return twin::run("exclusive_scan", workspace, bytes, 256, stream,
                   [=] { std::exclusive_scan(in, in + n, out, 0); });
}

inline Status stable_sort_pairs(void* workspace, size_t* bytes, const uint32_t* keys,
                                uint32_t* sorted_keys, const int32_t* values,
                                int32_t* sorted_values, int64_t n, int key_bits, Stream stream) {
  const size_t needed = 256 + 8 * static_cast<size_t>(n);
  return twin::run("stable_sort_pairs", workspace, bytes, needed, stream, [=] {
    const uint64_t mask = (uint64_t{1} << key_bits) - 1;
    std::vector<int64_t> from(static_cast<size_t>(n));
    std::iota(from.begin(), from.end(), 0);
    std::stable_sort(from.begin(), from.end(),
                     [&](int64_t a, int64_t b) { return (keys[a] & mask) < (keys[b] & mask); });
    for (int64_t i = 0; i < n; ++i) {
      sorted_keys[i] = keys[from[static_cast<size_t>(i)]];
      sorted_values[i] = values[from[static_cast<size_t>(i)]];
    }
  });
}

#else

inline Status exclusive_scan(void* workspace, size_t* bytes, const int32_t* in, int32_t* out,
                             int64_t n, Stream stream) {
  return {.code = cub::DeviceScan::ExclusiveSum(workspace, *bytes, in, out,
                                                static_cast<uint32_t>(n), stream),
          .call = "cub::DeviceScan::ExclusiveSum"};
}

inline Status stable_sort_pairs(void* workspace, size_t* bytes, const uint32_t* keys,
                                uint32_t* sorted_keys, const int32_t* values,
                                int32_t* sorted_values, int64_t n, int key_bits, Stream stream) {
  return {.code = cub::DeviceRadixSort::SortPairs(workspace, *bytes, keys, sorted_keys, values,
                                                  sorted_values, static_cast<uint32_t>(n), 0,
                                                  key_bits, stream),
          .call = "cub::DeviceRadixSort::SortPairs"};
}

#endif

}  // namespace stillpoint::kernels::cuda
