// Fibers: stacks of their own, changed by hand. One CUDA thread runs on one fiber.
#pragma once

#include <cstddef>

namespace stillpoint::emulation {

struct Fiber {
  void* context = nullptr;  // where it goes on
  char* stack = nullptr;    // its lowest byte; nullptr: not known yet
  size_t stack_bytes = 0;
  void* fake_stack = nullptr;  // AddressSanitizer's, kept while the fiber does not run
};

// The fiber that called into the emulation, on the stack of its operating-system thread.
extern Fiber host_fiber;

// Makes the next switch to fiber number `index` call `body` on an empty stack; body never returns.
void prepare_fiber(Fiber& fiber, int index, void (*body)());

// Goes on with `to`; returns when somebody switches back to `from`, the fiber that is running.
void switch_fiber(Fiber& from, Fiber& to);

// Whether an address lies on a fiber's stack.
bool on_fiber_stack(const void* address);

}  // namespace stillpoint::emulation
