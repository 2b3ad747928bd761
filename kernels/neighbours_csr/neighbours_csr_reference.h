// neighbours_csr by its definition: one list after the other.
#pragma once

#include <cstdint>

#include "kernels/neighbours_csr/neighbours_csr.h"

namespace stillpoint::kernels::reference {

inline void neighbours_csr(const NeighboursCsrArgs& args) {
  int32_t entries = 0;
  args.offsets[0] = 0;
  for (int64_t row = 0; row < args.batch * args.nodes; ++row) {
    for (int64_t t = 0; t < args.count; ++t) {
      const int32_t j = args.neighbours[row * args.count + t];
      if (j >= 0) args.indices[entries++] = static_cast<int32_t>(row / args.nodes * args.keys) + j;
    }
    args.offsets[row + 1] = entries;
  }
}

}  // namespace stillpoint::kernels::reference
