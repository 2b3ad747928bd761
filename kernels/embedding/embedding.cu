// embedding on CUDA: a warp per row, forward and backward.
#include <cmath>

#include "kernels/common/add_parts.cuh"
#include "kernels/common/launch.h"
#include "kernels/embedding/embedding.h"

namespace stillpoint::kernels::cuda {
namespace {

constexpr int kRows = 8;     // rows a block, a warp each
constexpr int kPerLane = 4;  // channels of the backward that a lane keeps in registers
constexpr int kTile = kWarpSize * kPerLane;

__global__ void __launch_bounds__(kRows* kWarpSize) forward_kernel(EmbeddingArgs<float> args) {
  for (int64_t i = int64_t{blockIdx.x} * kRows + threadIdx.y; i < args.count;
       i += int64_t{gridDim.x} * kRows) {
    const int64_t v = args.index[i];
    const bool inside = v >= 0 && v < args.entries;
    for (int64_t k = threadIdx.x; k < args.channels; k += kWarpSize)
      args.out[i * args.channels + k] = inside ? args.table[v * args.channels + k] : NAN;
  }
}

// A warp reads the indices of a part and adds the rows of g that picked its entry, in their order.
// blockIdx.y counts tiles of channels, blockIdx.z parts of `part` picks; out: [parts, entries,
// channels].
__global__ void __launch_bounds__(kRows* kWarpSize)
    backward_kernel(EmbeddingBackwardArgs<float> args, int64_t part, float* out) {
  const int64_t begin = blockIdx.z * part;
  const int64_t end = begin + part < args.count ? begin + part : args.count;
  out += blockIdx.z * args.entries * args.channels;
  const int lane = static_cast<int>(threadIdx.x);
  const int64_t column = int64_t{blockIdx.y} * kTile + lane;
  for (int64_t v = int64_t{blockIdx.x} * kRows + threadIdx.y; v < args.entries;
       v += int64_t{gridDim.x} * kRows) {
    float sum[kPerLane] = {};
    for (int64_t first = begin; first < end; first += kWarpSize) {
      const bool mine = first + lane < end && args.index[first + lane] == v;
      for (unsigned found = __ballot_sync(kFullMask, mine); found != 0; found &= found - 1) {
        const float* g = args.g + (first + __ffs(static_cast<int>(found)) - 1) * args.channels;
#pragma unroll
        for (int j = 0; j < kPerLane; ++j)
          if (column + j * kWarpSize < args.channels) sum[j] += g[column + j * kWarpSize];
      }
    }
#pragma unroll
    for (int j = 0; j < kPerLane; ++j)
      if (column + j * kWarpSize < args.channels)
        out[v * args.channels + column + j * kWarpSize] = sum[j];
  }
}

}  // namespace

Status embedding(const EmbeddingArgs<float>& args, Stream stream) {
  if (args.count == 0 || args.channels == 0) return {};
  return launch(forward_kernel, blocks_for(args.count, kRows), dim3(kWarpSize, kRows), 0, stream,
                args);
}

Status embedding_backward(const EmbeddingBackwardArgs<float>& args, Stream stream) {
  if (args.entries == 0 || args.channels == 0) return {};
  const auto tiles = static_cast<unsigned>((args.channels + kTile - 1) / kTile);
  const int64_t parts = embedding_parts(args.entries, args.count);
  const int64_t part = (args.count + parts - 1) / parts;
  const Status status = launch(
      backward_kernel, dim3(blocks_for(args.entries, kRows), tiles, static_cast<unsigned>(parts)),
      dim3(kWarpSize, kRows), 0, stream, args, part, parts > 1 ? args.sums : args.dtable);
  if (!status.ok() || parts == 1) return status;
  return add_parts(args.sums, parts, args.entries * args.channels, args.dtable, stream);
}

}  // namespace stillpoint::kernels::cuda
