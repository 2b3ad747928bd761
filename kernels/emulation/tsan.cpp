// The functions that code compiled with -fsanitize=thread calls, for the race check. The
// sanitizer's own library is not linked.
#include <cstddef>
#include <cstdint>

#include "kernels/emulation/race.h"

namespace stillpoint::emulation {
extern bool instrumented;
}

using stillpoint::emulation::Access;
using stillpoint::emulation::race_access;

extern "C" {

void __tsan_init() { stillpoint::emulation::instrumented = true; }
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_read(void**) {}
void __tsan_vptr_update(void**, void*) {}

#define STILLPOINT_ACCESS(name, bytes, access) \
  void name(void* address) { race_access(address, bytes, access, __builtin_return_address(0)); }
#define STILLPOINT_ACCESSES(bytes)                                       \
  STILLPOINT_ACCESS(__tsan_read##bytes, bytes, Access::read)             \
  STILLPOINT_ACCESS(__tsan_write##bytes, bytes, Access::write)           \
  STILLPOINT_ACCESS(__tsan_unaligned_read##bytes, bytes, Access::read)   \
  STILLPOINT_ACCESS(__tsan_unaligned_write##bytes, bytes, Access::write) \
  STILLPOINT_ACCESS(__tsan_volatile_read##bytes, bytes, Access::read)    \
  STILLPOINT_ACCESS(__tsan_volatile_write##bytes, bytes, Access::write)
STILLPOINT_ACCESSES(1)
STILLPOINT_ACCESSES(2)
STILLPOINT_ACCESSES(4)
STILLPOINT_ACCESSES(8)
STILLPOINT_ACCESSES(16)

void __tsan_read_range(void* address, size_t bytes) {
  race_access(address, bytes, Access::read, __builtin_return_address(0));
}
void __tsan_write_range(void* address, size_t bytes) {
  race_access(address, bytes, Access::write, __builtin_return_address(0));
}

// The host code of a .cu file counts references and initialises statics: real atomics, unwatched.
#define STILLPOINT_ATOMICS(bits)                                                                   \
  uint##bits##_t __tsan_atomic##bits##_load(const volatile uint##bits##_t* p, int) {               \
    return __atomic_load_n(p, __ATOMIC_SEQ_CST);                                                   \
  }                                                                                                \
  void __tsan_atomic##bits##_store(volatile uint##bits##_t* p, uint##bits##_t v, int) {            \
    __atomic_store_n(p, v, __ATOMIC_SEQ_CST);                                                      \
  }                                                                                                \
  uint##bits##_t __tsan_atomic##bits##_exchange(volatile uint##bits##_t* p, uint##bits##_t v,      \
                                                int) {                                             \
    return __atomic_exchange_n(p, v, __ATOMIC_SEQ_CST);                                            \
  }                                                                                                \
  uint##bits##_t __tsan_atomic##bits##_fetch_add(volatile uint##bits##_t* p, uint##bits##_t v,     \
                                                 int) {                                            \
    return __atomic_fetch_add(p, v, __ATOMIC_SEQ_CST);                                             \
  }                                                                                                \
  uint##bits##_t __tsan_atomic##bits##_fetch_sub(volatile uint##bits##_t* p, uint##bits##_t v,     \
                                                 int) {                                            \
    return __atomic_fetch_sub(p, v, __ATOMIC_SEQ_CST);                                             \
  }                                                                                                \
  int __tsan_atomic##bits##_compare_exchange_strong(                                               \
      volatile uint##bits##_t* p, uint##bits##_t* expected, uint##bits##_t v, int, int) {          \
    return __atomic_compare_exchange_n(p, expected, v, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST); \
  }
STILLPOINT_ATOMICS(8)
STILLPOINT_ATOMICS(32)
STILLPOINT_ATOMICS(64)
}
