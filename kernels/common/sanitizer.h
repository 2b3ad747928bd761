// AddressSanitizer's hooks, where it is on.
#pragma once

#include <cstddef>

#ifdef __has_feature
#if __has_feature(address_sanitizer)
#define STILLPOINT_ASAN 1
#endif
#endif
#ifdef __SANITIZE_ADDRESS__
#define STILLPOINT_ASAN 1
#endif

#ifdef STILLPOINT_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace stillpoint {

inline void asan_poison([[maybe_unused]] const void* address, [[maybe_unused]] size_t bytes) {
#ifdef STILLPOINT_ASAN
  __asan_poison_memory_region(address, bytes);
#endif
}

inline void asan_unpoison([[maybe_unused]] const void* address, [[maybe_unused]] size_t bytes) {
#ifdef STILLPOINT_ASAN
  __asan_unpoison_memory_region(address, bytes);
#endif
}

}  // namespace stillpoint
