// Index types of CUDA kernels that divide: a 64-bit division costs more than the memory traffic of
// an element, so indices are 32 bits wide where that suffices.
#pragma once

#include <cstdint>

#include "kernels/common/status.h"

namespace stillpoint::kernels::cuda {

// launch_with<Index>() for the narrowest Index that counts `elements`.
template <class Launch>
Status with_index(int64_t elements, const Launch& launch_with) {
  constexpr int64_t kNarrow = UINT32_MAX;
  return elements <= kNarrow ? launch_with.template operator()<uint32_t>()
                             : launch_with.template operator()<uint64_t>();
}

}  // namespace stillpoint::kernels::cuda
