// copy_columns on the CPU: the C library's copy, row by row.
#include <algorithm>
#include <cstring>

#include "kernels/common/parallel.h"
#include "kernels/concat/concat.h"

namespace stillpoint::kernels::cpu {

void copy_columns(const CopyColumnsArgs<float>& args) {
  if (args.columns == 0) return;
  constexpr int64_t kElements = 32768;  // a chunk: a few microseconds
  parallel_for(
      args.rows, std::max<int64_t>(1, kElements / args.columns), [&](int64_t first, int64_t last) {
        const size_t bytes = static_cast<size_t>(args.columns) * sizeof(float);
        for (int64_t r = first; r < last; ++r)
          std::memcpy(args.to + r * args.to_stride, args.from + r * args.from_stride, bytes);
      });
}

}  // namespace stillpoint::kernels::cpu
