#include "kernels/emulation/fault.h"

#include <signal.h>
#include <ucontext.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <string>

#include "kernels/common/sanitizer.h"
#include "kernels/emulation/block.h"
#include "kernels/emulation/heap.h"

namespace stillpoint::emulation {
namespace {

constexpr size_t kStackBytes = 256 * 1024;
alignas(64) char landing_stack[kStackBytes];  // the thread's own may be what overflowed
alignas(64) thread_local char signal_stack[64 * 1024];

struct sigaction previous_segv, previous_bus;
const void* fault_address = nullptr;

[[noreturn]] void land() {
#ifdef STILLPOINT_ASAN
  __sanitizer_start_switch_fiber(nullptr, landing_stack, kStackBytes);
  __sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr);
#endif
  if (on_fiber_stack(fault_address)) {
    fail(cudaErrorIllegalAddress, "stack overflow", [] { return describe(*block.current); });
  }
  const Allocation* a = find_allocation(fault_address);
  fail(cudaErrorIllegalAddress, a != nullptr && !a->live ? "use after free" : "illegal address",
       [] { return describe(*block.current) + " touched " + describe_address(fault_address); });
}

// The thread goes on in land(), outside the signal handler, where everything is allowed.
bool redirect(void* context) {
  auto& machine = static_cast<ucontext_t*>(context)->uc_mcontext;
  const auto stack = reinterpret_cast<uintptr_t>(landing_stack + kStackBytes);
#if defined(__x86_64__)
  machine.gregs[REG_RSP] = static_cast<greg_t>(stack - 8);  // as if called
  machine.gregs[REG_RIP] = static_cast<greg_t>(reinterpret_cast<uintptr_t>(&land));
  return true;
#elif defined(__aarch64__)
  machine.sp = stack;
  machine.pc = reinterpret_cast<uintptr_t>(&land);
  return true;
#else
  return false;
#endif
}

void on_fault(int signal, siginfo_t* info, void* context) {
  if (open_allocation(info->si_addr)) return;  // the first touch: it may go on
  if (running_on_device()) {
    fault_address = info->si_addr;
    if (redirect(context)) return;
  } else if (in_device_heap(info->si_addr)) {
    const std::string text = "stillpoint emulation: host code touched device memory " +
                             describe_address(info->si_addr) + "; copy it with cudaMemcpy\n";
    [[maybe_unused]] const auto written = write(STDERR_FILENO, text.data(), text.size());
  }
  // Not ours: with the previous handler in place the access faults again.
  sigaction(signal, signal == SIGBUS ? &previous_bus : &previous_segv, nullptr);
}

}  // namespace

void watch_faults() {
  thread_local bool has_stack = false;
  if (!has_stack) {
    stack_t current{};
    sigaltstack(nullptr, &current);
    if ((current.ss_flags & SS_DISABLE) != 0) {
      stack_t stack{};
      stack.ss_sp = signal_stack;
      stack.ss_size = sizeof signal_stack;
      sigaltstack(&stack, nullptr);
    }
    has_stack = true;
  }
  static const bool installed = [] {
    struct sigaction action {};
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    return sigaction(SIGSEGV, &action, &previous_segv) == 0 &&
           sigaction(SIGBUS, &action, &previous_bus) == 0;
  }();
  (void)installed;
}

}  // namespace stillpoint::emulation
