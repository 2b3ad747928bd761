// transpose_csr on CUDA: counting the columns and scanning the counts gives the offsets, a stable
// sort of the entries by column gives everything else. The sort works in the outputs, each of which
// is overwritten by its own content at the end.
#include "kernels/transpose_csr/transpose_csr.h"

#include <algorithm>
#include <bit>

#include "kernels/common/device_wide.h"
#include "kernels/common/launch.h"

namespace stillpoint::kernels::cuda {
namespace {

constexpr int kThreads = 256;

// Integer atomics: the counts do not depend on the order of the additions.
__global__ void __launch_bounds__(kThreads)
    count_columns(CsrView pattern, int32_t* counts, int32_t* entry) {
  for (int64_t e = global_thread(); e < pattern.entries; e += grid_threads()) {
    atomicAdd(&counts[pattern.indices[e]], 1);
    entry[e] = static_cast<int32_t>(e);
  }
}

__global__ void __launch_bounds__(kThreads)
    place_entries(CsrView pattern, const int32_t* t_order, int32_t* t_indices, int32_t* order) {
  for (int64_t slot = global_thread(); slot < pattern.entries; slot += grid_threads()) {
    const int32_t e = t_order[slot];
    t_indices[slot] = static_cast<int32_t>(row_of_entry(pattern, e));
    order[e] = static_cast<int32_t>(slot);
  }
}

// Block 0 looks at the rows, block 1 at the columns.
__global__ void __launch_bounds__(kThreads)
    find_degrees(CsrView pattern, const int32_t* t_offsets, int32_t* degrees) {
  const int32_t* offsets = blockIdx.x == 0 ? pattern.offsets : t_offsets;
  const int64_t rows = blockIdx.x == 0 ? pattern.rows : pattern.cols;
  int differs = 0;
  for (int64_t i = threadIdx.x; i < rows; i += blockDim.x)
    differs |= offsets[i + 1] - offsets[i] != offsets[1];
  differs = __syncthreads_or(differs);
  if (threadIdx.x == 0) degrees[blockIdx.x] = rows > 0 && !differs ? offsets[1] : 0;
}

// With workspace == nullptr these two only say how much of it they need.
Status scan_counts(const TransposeCsrArgs& args, size_t* bytes, Stream stream) {
  return exclusive_scan(args.workspace, bytes, args.t_offsets, args.t_offsets,
                        args.pattern.cols + 1, stream);
}

Status sort_by_column(const TransposeCsrArgs& args, size_t* bytes, Stream stream) {
  const CsrView& p = args.pattern;
  const auto key_bits = static_cast<int>(std::bit_width(static_cast<uint64_t>(p.cols)));
  return stable_sort_pairs(args.workspace, bytes, reinterpret_cast<const uint32_t*>(p.indices),
                           reinterpret_cast<uint32_t*>(args.t_indices), args.order, args.t_order,
                           p.entries, key_bits, stream);
}

}  // namespace

Status transpose_csr_workspace(const CsrView& pattern, int64_t* bytes) {
  TransposeCsrArgs args{};
  args.pattern = pattern;
  size_t for_scan = 0, for_sort = 0;
  Status status = scan_counts(args, &for_scan, nullptr);
  if (status.ok() && pattern.entries > 0) status = sort_by_column(args, &for_sort, nullptr);
  *bytes = static_cast<int64_t>(std::max(for_scan, for_sort));
  return status;
}

Status transpose_csr(const TransposeCsrArgs& args, Stream stream) {
  const CsrView& p = args.pattern;
  const unsigned blocks = blocks_for(p.entries, kThreads);
  size_t bytes = static_cast<size_t>(args.workspace_bytes);
  Status status{.code = cudaMemsetAsync(args.t_offsets, 0,
                                        static_cast<size_t>(p.cols + 1) * sizeof(int32_t), stream),
                .call = "cudaMemsetAsync"};
  const auto then = [&status](auto step) {
    if (status.ok()) status = step();
  };
  if (p.entries > 0) {
    then([&] {
      return launch(count_columns, blocks, kThreads, 0, stream, p, args.t_offsets, args.order);
    });
    then([&] { return scan_counts(args, &bytes, stream); });
    then([&] { return sort_by_column(args, &bytes, stream); });
    then([&] {
      return launch(place_entries, blocks, kThreads, 0, stream, p, args.t_order, args.t_indices,
                    args.order);
    });
  }
  then([&] {
    return launch(find_degrees, 2, kThreads, 0, stream, p, args.t_offsets, args.degrees);
  });
  return status;
}

}  // namespace stillpoint::kernels::cuda
