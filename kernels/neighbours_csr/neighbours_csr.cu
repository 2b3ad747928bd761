// neighbours_csr on CUDA: a thread per row counts, the counts are scanned, a thread per row places.
#include "kernels/common/device_wide.h"
#include "kernels/common/launch.h"
#include "kernels/neighbours_csr/neighbours_csr.h"

namespace stillpoint::kernels::cuda {
namespace {

constexpr int kThreads = 256;

// offsets[row] = the entries of the row, and 0 behind the last.
__global__ void __launch_bounds__(kThreads) count_rows(NeighboursCsrArgs args) {
  const int64_t rows = args.batch * args.nodes;
  for (int64_t row = global_thread(); row <= rows; row += grid_threads()) {
    int32_t entries = 0;
    for (int64_t t = 0; row < rows && t < args.count; ++t)
      entries += args.neighbours[row * args.count + t] >= 0;
    args.offsets[row] = entries;
  }
}

__global__ void __launch_bounds__(kThreads) place_rows(NeighboursCsrArgs args) {
  const int64_t rows = args.batch * args.nodes;
  for (int64_t row = global_thread(); row < rows; row += grid_threads()) {
    const auto shift = static_cast<int32_t>(row / args.nodes * args.keys);
    int32_t to = args.offsets[row];
    for (int64_t t = 0; t < args.count; ++t) {
      const int32_t j = args.neighbours[row * args.count + t];
      if (j >= 0) args.indices[to++] = shift + j;
    }
  }
}

}  // namespace

Status neighbours_csr_workspace(int64_t rows, int64_t* bytes) {
  size_t needed = 0;
  const Status status = exclusive_scan(nullptr, &needed, nullptr, nullptr, rows + 1, nullptr);
  *bytes = static_cast<int64_t>(needed);
  return status;
}

Status neighbours_csr(const NeighboursCsrArgs& args, Stream stream) {
  const int64_t rows = args.batch * args.nodes;
  const unsigned blocks = blocks_for(rows + 1, kThreads);
  auto bytes = static_cast<size_t>(args.workspace_bytes);
  Status status = launch(count_rows, blocks, kThreads, 0, stream, args);
  if (status.ok())
    status = exclusive_scan(args.workspace, &bytes, args.offsets, args.offsets, rows + 1, stream);
  if (status.ok() && rows > 0) status = launch(place_rows, blocks, kThreads, 0, stream, args);
  return status;
}

}  // namespace stillpoint::kernels::cuda
