// One running block: its threads, warps, barrier and shared memory.
#pragma once

#include <string>

#include "kernels/emulation/emulation.h"
#include "kernels/emulation/fiber.h"
#include "kernels/emulation/launch.h"

namespace stillpoint::emulation {

inline constexpr int kMaxThreads = 1024;
inline constexpr size_t kMaxSharedBytes = 232448;     // Hopper's limit per block
inline constexpr size_t kSharedBytesUnasked = 49152;  // without cudaFuncSetAttribute
inline constexpr size_t kSharedArenaBytes = kMaxSharedBytes + 64 * 1024;

struct Thread {
  enum class State : uint8_t { ready, running, at_barrier, in_warp_operation, exited };
  uint3 index{};  // threadIdx
  int linear = 0;
  State state = State::ready;
  Fiber* fiber = nullptr;  // nullptr until the thread first runs
  // What it waits for:
  Site site{}, caller{};
  int calls = 0;  // Caller objects that live
  WarpOp op{};
  unsigned mask = 0;
  uint64_t value = 0;
  int argument = 0, width = 0;

  int lane() const { return linear % 32; }
  int warp() const { return linear / 32; }
};

// A warp operation that some of the lanes it names have reached.
struct Meeting {
  unsigned mask = 0, arrived = 0;
};

struct Warp {
  unsigned present = 0, exited = 0;
  int open = 0;  // meetings in progress
  Meeting meetings[32];
};

struct Block {
  const Launch* launch = nullptr;
  int size = 0, alive = 0;
  Thread threads[kMaxThreads];
  Warp warps[kMaxThreads / 32];
  Thread* current = nullptr;

  Thread& thread_of(int warp, int lane) { return threads[warp * 32 + lane]; }
};
extern Block block;
extern Counters counts;

// Runs every block of a launch. False: a check failed, and report_failure() has been called.
bool run_grid(const Launch& launch);
bool running_on_device();  // whether a CUDA thread is running now

// The scheduler, for barriers and warp operations.
void wait_current();        // returns when somebody has called wake() for the running thread
void wake(Thread& thread);  // puts a waiting thread back into the draw
uint64_t draw();            // the next number of the seeded sequence
bool random_order();

// Records the failure of a check in the running block.
void record_failure(cudaError_t code, const char* check, const std::string& detail);
[[noreturn]] void end_block();  // for the running thread: nothing after it happens

// Ends the block, and with it all work on the device. The thread's stack is dropped as it is, so
// that text must not live on it: `detail` is a function that returns it.
template <class Detail>
[[noreturn]] void fail(cudaError_t code, const char* check, Detail detail) {
  record_failure(code, check, detail());
  end_block();
}

void report_failure(cudaError_t code, std::string message);  // runtime.cpp keeps the first

std::string describe(const Thread& thread);        // "thread (3,0,0)"
std::string describe(const Site& site);            // "file.cu:12"
std::string describe_block();                      // "kernel k, block (0,0,0)"
std::string describe_waiting();                    // which threads wait where
std::string describe_place(const Thread& thread);  // "file.cu:12, called from file.cu:34"
bool same_site(const Site& a, const Site& b);
bool same_place(const Thread& a, const Thread& b);
const char* name_of(WarpOp op);
// From the program's symbols and line table:
std::string function_name(const void* address);
std::string source_line(const void* return_address);  // "file.cu:12 (function)"
// Whether it lies in the constants of the program or a library, or is a counter of gcov's.
bool in_constant_data(const void* address);

void begin_shared(size_t dynamic_bytes);
std::string check_shared();                    // empty, or which array was overrun
ptrdiff_t shared_offset(const void* address);  // in the arena; -1: not shared memory
std::string describe_shared(const void* address);
void thread_exits_warp(Thread& thread);

}  // namespace stillpoint::emulation
