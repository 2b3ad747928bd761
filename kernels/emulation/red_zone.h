// The bytes around an array, filled with a pattern that a stray write disturbs and that a stray
// read sees as NaN: 0xffcaffca is one, as float, as the halves of a double and as two bfloat16.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels/common/sanitizer.h"

namespace stillpoint::emulation {

inline unsigned char red_zone_byte(const void* address) {
  return reinterpret_cast<uintptr_t>(address) % 2 == 0 ? 0xca : 0xff;
}

// AddressSanitizer, where it is on, reports the access itself: the zone need not be looked at.
inline void fill_red_zone([[maybe_unused]] void* address, [[maybe_unused]] size_t bytes) {
#ifndef STILLPOINT_ASAN
  auto* p = static_cast<unsigned char*>(address);
  for (size_t i = 0; i < bytes && i < 2; ++i) p[i] = red_zone_byte(p + i);
  for (size_t done = 2; done < bytes; done *= 2) {
    std::memcpy(p + done, p, done < bytes - done ? done : bytes - done);
  }
#endif
}

// The first byte that is not as fill_red_zone() left it, or nullptr.
template <class Byte>
const Byte* find_written([[maybe_unused]] const Byte* begin, [[maybe_unused]] size_t bytes) {
#ifndef STILLPOINT_ASAN
  // Whole if it begins well and each byte is the same as the one two before it: quick to see.
  if (bytes >= 2 && static_cast<unsigned char>(begin[0]) == red_zone_byte(begin) &&
      static_cast<unsigned char>(begin[1]) == red_zone_byte(begin + 1) &&
      std::memcmp(begin, begin + 2, bytes - 2) == 0) {
    return nullptr;
  }
  for (size_t i = 0; i < bytes; ++i) {
    if (static_cast<unsigned char>(begin[i]) != red_zone_byte(begin + i)) return begin + i;
  }
#endif
  return nullptr;
}

}  // namespace stillpoint::emulation
