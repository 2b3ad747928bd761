// copy_columns by its formula.
#pragma once

#include <cstdint>

#include "kernels/concat/concat.h"

namespace stillpoint::kernels::reference {

template <class T>
void copy_columns(const CopyColumnsArgs<T>& args) {
  for (int64_t r = 0; r < args.rows; ++r)
    for (int64_t c = 0; c < args.columns; ++c)
      args.to[r * args.to_stride + c] = args.from[r * args.from_stride + c];
}

}  // namespace stillpoint::kernels::reference
