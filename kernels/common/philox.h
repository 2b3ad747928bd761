// Philox4x32-10, a counter-based random generator: the bits are a pure function of (key, counter),
// so any thread on any backend can draw its own without state. Salmon, Moraes, Dror, Shaw:
// "Parallel random numbers: as easy as 1, 2, 3" (SC 2011), section 3.3 and table 2.
#pragma once

#include <cstdint>

#include "kernels/common/portable.h"

namespace stillpoint::kernels {

struct PhiloxBlock {
  uint32_t v[4];
};

STILLPOINT_HD inline PhiloxBlock philox4x32_10(uint64_t key, uint64_t counter_low,
                                               uint64_t counter_high) {
  uint32_t c0 = static_cast<uint32_t>(counter_low), c1 = static_cast<uint32_t>(counter_low >> 32);
  uint32_t c2 = static_cast<uint32_t>(counter_high), c3 = static_cast<uint32_t>(counter_high >> 32);
  uint32_t k0 = static_cast<uint32_t>(key), k1 = static_cast<uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53u} * c0;
    const uint64_t p1 = uint64_t{0xCD9E8D57u} * c2;
    c0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0;
    c2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1;
    c1 = static_cast<uint32_t>(p1);
    c3 = static_cast<uint32_t>(p0);
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return {{c0, c1, c2, c3}};
}

// 24 random bits to [0, 1), exact in float.
STILLPOINT_HD inline float uniform_from_bits(uint32_t bits) {
  return static_cast<float>(bits >> 8) * 0x1p-24f;
}

}  // namespace stillpoint::kernels
