#include "kernels/emulation/fiber.h"

#include <sys/mman.h>

#include <boost/context/detail/fcontext.hpp>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "kernels/common/sanitizer.h"

namespace stillpoint::emulation {
namespace {

using boost::context::detail::jump_fcontext;
using boost::context::detail::make_fcontext;
using boost::context::detail::transfer_t;

constexpr int kFibers = 1025;  // one per thread of the largest block, and the one that ends it
constexpr size_t kGuardBytes =
    64 * 1024;  // wider than any frame we know, so that none steps over it
constexpr size_t kStackBytes = 256 * 1024;  // address space: only touched pages cost memory

char* stacks = nullptr;
void (*fiber_body)() = nullptr;

char* reserve_stacks() {
  constexpr size_t kStride = kGuardBytes + kStackBytes;
  void* region = mmap(nullptr, kFibers * kStride, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
  if (region == MAP_FAILED) {
    std::fputs("stillpoint emulation: no address space for the threads' stacks\n", stderr);
    std::abort();
  }
  char* base = static_cast<char*>(region);
  for (int i = 0; i < kFibers; ++i) mprotect(base + i * kStride, kGuardBytes, PROT_NONE);
  return base;
}

// Runs first on the side that was switched to: completes what switch_fiber began.
void arrived(transfer_t transfer, [[maybe_unused]] void* fake_stack) {
  Fiber& from = *static_cast<Fiber*>(transfer.data);
  from.context = transfer.fctx;
#ifdef STILLPOINT_ASAN
  const void* bottom = nullptr;
  size_t bytes = 0;
  __sanitizer_finish_switch_fiber(fake_stack, &bottom, &bytes);
  if (&from == &host_fiber) {
    from.stack = static_cast<char*>(const_cast<void*>(bottom));
    from.stack_bytes = bytes;
  }
#endif
}

void fiber_entry(transfer_t transfer) {
  arrived(transfer, nullptr);
  fiber_body();
}

}  // namespace

Fiber host_fiber;

void prepare_fiber(Fiber& fiber, int index, void (*body)()) {
  if (stacks == nullptr) stacks = reserve_stacks();
  fiber_body = body;
  fiber.stack = stacks + index * (kGuardBytes + kStackBytes) + kGuardBytes;
  fiber.stack_bytes = kStackBytes;
  fiber.fake_stack = nullptr;
  asan_unpoison(fiber.stack, kStackBytes);
  // Stacks at the same offset in their pages would all fall into one cache set: spread them.
  const size_t colour = (static_cast<size_t>(index) * 320) & 8191 & ~size_t{63};
  const size_t usable = kStackBytes - 64 - colour;
  fiber.context = make_fcontext(fiber.stack + usable, usable, fiber_entry);
}

void switch_fiber(Fiber& from, Fiber& to) {
#ifdef STILLPOINT_ASAN
  __sanitizer_start_switch_fiber(&from.fake_stack, to.stack, to.stack_bytes);
#endif
  arrived(jump_fcontext(to.context, &from), from.fake_stack);
}

bool on_fiber_stack(const void* address) {
  const auto a = reinterpret_cast<uintptr_t>(address), base = reinterpret_cast<uintptr_t>(stacks);
  return stacks != nullptr && a >= base && a < base + kFibers * (kGuardBytes + kStackBytes);
}

}  // namespace stillpoint::emulation
