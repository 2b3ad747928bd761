// Atomics. One operating-system thread runs every CUDA thread and changes threads only where one
// waits, so plain code is atomic; the race check is told that the access was an atomic one.
#pragma once

#include <cstddef>
#include <type_traits>

namespace stillpoint::emulation {

// Tells the race check about an atomic access (no more than a call where the check is off).
void atomic_access(const void* address, size_t bytes, const void* caller);

// Kept out of line and uninstrumented: the race check must see the atomic, not its plain body.
template <class T, class Update>
__attribute__((noinline, no_sanitize("thread"))) T atomic_update(T* address, Update update) {
  atomic_access(address, sizeof(T), __builtin_return_address(0));
  const T old = *address;
  *address = update(old);
  return old;
}

}  // namespace stillpoint::emulation

#define STILLPOINT_ATOMIC(name, expression)                                                 \
  template <class T>                                                                        \
  __attribute__((always_inline)) inline T name(T* address, std::type_identity_t<T> value) { \
    return stillpoint::emulation::atomic_update(                                            \
        address, [value](T old) { return static_cast<T>(expression); });                    \
  }
STILLPOINT_ATOMIC(atomicAdd, old + value)
STILLPOINT_ATOMIC(atomicSub, old - value)
STILLPOINT_ATOMIC(atomicExch, ((void)old, value))
STILLPOINT_ATOMIC(atomicMin, value < old ? value : old)
STILLPOINT_ATOMIC(atomicMax, value > old ? value : old)
STILLPOINT_ATOMIC(atomicAnd, old& value)
STILLPOINT_ATOMIC(atomicOr, old | value)
STILLPOINT_ATOMIC(atomicXor, old ^ value)
STILLPOINT_ATOMIC(atomicInc, old >= value ? T{0} : old + 1)
STILLPOINT_ATOMIC(atomicDec, old == 0 || old > value ? value : old - 1)
#undef STILLPOINT_ATOMIC

template <class T>
__attribute__((always_inline)) inline T atomicCAS(T* address, std::type_identity_t<T> expected,
                                                  std::type_identity_t<T> value) {
  return stillpoint::emulation::atomic_update(
      address, [expected, value](T old) { return old == expected ? value : old; });
}
