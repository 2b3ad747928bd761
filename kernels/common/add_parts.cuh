// Sums that several blocks formed of the same array, added up in their order: the same bits however
// the blocks ran. For .cu files only.
#pragma once

#include "kernels/common/launch.h"

namespace stillpoint::kernels::cuda {
namespace {

constexpr int kAddPartsThreads = 256;

__global__ void __launch_bounds__(kAddPartsThreads)
    add_parts_kernel(const float* from, int64_t parts, int64_t n, float* out) {
  for (int64_t e = global_thread(); e < n; e += grid_threads()) {
    float sum = 0.f;
    for (int64_t part = 0; part < parts; ++part) sum += from[part * n + e];
    out[e] = sum;
  }
}

// out [n] = the sum of `parts` arrays of n that lie one behind the other.
Status add_parts(const float* from, int64_t parts, int64_t n, float* out, Stream stream) {
  return launch(add_parts_kernel, blocks_for(n, kAddPartsThreads), kAddPartsThreads, 0, stream,
                from, parts, n, out);
}

}  // namespace
}  // namespace stillpoint::kernels::cuda
