// The bytes around an array, filled with a pattern that a stray write disturbs and that a stray
// read sees as NaN: 0xffcaffca is one, as float, as the halves of a double and as two bfloat16.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/common/sanitizer.h"

namespace stillpoint::emulation {

inline unsigned char red_zone_byte(const void* address) {
  return reinterpret_cast<uintptr_t>(address) % 2 == 0 ? 0xca : 0xff;
}

// AddressSanitizer, where it is on, reports the access itself: the zone need not be looked at.
inline void fill_red_zone([[maybe_unused]] void* address, [[maybe_unused]] size_t bytes) {
#ifndef STILLPOINT_ASAN
  auto* p = static_cast<unsigned char*>(address);
  for (size_t i = 0; i < bytes; ++i) p[i] = red_zone_byte(p + i);
#endif
}

// The first byte that is not as fill_red_zone() left it, or nullptr.
template <class Byte>
const Byte* find_written([[maybe_unused]] const Byte* begin, [[maybe_unused]] size_t bytes) {
#ifndef STILLPOINT_ASAN
  for (size_t i = 0; i < bytes; ++i) {
    if (static_cast<unsigned char>(begin[i]) != red_zone_byte(begin + i)) return begin + i;
  }
#endif
  return nullptr;
}

}  // namespace stillpoint::emulation
