// neighbours_csr on the CPU: rows are counted and placed by all threads, their numbers added by
// one.
#include "kernels/neighbours_csr/neighbours_csr.h"

#include <algorithm>

#include "kernels/common/parallel.h"

namespace stillpoint::kernels::cpu {

void neighbours_csr(const NeighboursCsrArgs& args) {
  const int64_t rows = args.batch * args.nodes, count = args.count;
  const int64_t grain = std::max<int64_t>(1, 32768 / std::max<int64_t>(1, count));
  args.offsets[0] = 0;
  parallel_for(rows, grain, [&](int64_t first, int64_t last) {
    for (int64_t row = first; row < last; ++row) {
      const int32_t* list = args.neighbours + row * count;
      args.offsets[row + 1] =
          static_cast<int32_t>(std::count_if(list, list + count, [](int32_t j) { return j >= 0; }));
    }
  });
  for (int64_t row = 0; row < rows; ++row) args.offsets[row + 1] += args.offsets[row];
  parallel_for(rows, grain, [&](int64_t first, int64_t last) {
    for (int64_t row = first; row < last; ++row) {
      const auto shift = static_cast<int32_t>(row / args.nodes * args.keys);
      int32_t* to = args.indices + args.offsets[row];
      for (int64_t t = 0; t < count; ++t) {
        const int32_t j = args.neighbours[row * count + t];
        if (j >= 0) *to++ = shift + j;
      }
    }
  });
}

}  // namespace stillpoint::kernels::cpu
