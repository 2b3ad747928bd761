#include "kernels/emulation/block.h"

#include <array>
#include <utility>
#include <vector>

#include "kernels/emulation/emulation.h"
#include "kernels/emulation/race.h"

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace stillpoint::emulation {

Block block;
Counters counts;

namespace {

constexpr const char* kDivergentBarrier = "divergent barrier";
constexpr unsigned kRing = kMaxThreads - 1;  // mask: a thread is in the draw at most once

std::array<Thread*, kMaxThreads> ready;
unsigned ready_head = 0, ready_count = 0;

std::array<Fiber, kMaxThreads + 1> fibers;
size_t fibers_made = 0;
auto& idle = *new std::vector<Fiber*>;
Fiber* running = &host_fiber;
Thread* handed_over = nullptr;  // a fresh thread for the fiber that is switched to
bool failed = false;

struct Barrier {
  int arrived = 0, votes = 0;
} barrier;

uint64_t random_state = 1;
bool in_random_order = true;

Thread* take_ready() {
  if (ready_count == 0) return nullptr;
  if (in_random_order && ready_count > 1) {
    const auto pick = static_cast<unsigned>((draw() >> 32) * ready_count >> 32);
    std::swap(ready[ready_head & kRing], ready[(ready_head + pick) & kRing]);
  }
  --ready_count;
  return ready[ready_head++ & kRing];
}

void switch_to(Fiber& to) {
  Fiber& from = *running;
  running = &to;
  ++counts.fiber_switches;
  switch_fiber(from, to);
}

void make_current(Thread& thread) {
  block.current = &thread;
  thread.state = Thread::State::running;
  threadIdx = thread.index;
}

[[noreturn]] void diverged(int waiting, const Thread& one, const Thread& exited) {
  fail(cudaErrorLaunchFailure, kDivergentBarrier, [&] {
    return std::to_string(waiting) + " of " + std::to_string(block.size) + " threads wait at " +
           describe_place(one) + ", " + describe(exited) + " exited without reaching it";
  });
}

void exit_thread(Thread& thread) {
  thread.state = Thread::State::exited;
  thread.fiber = nullptr;
  --block.alive;
  if (barrier.arrived > 0 && barrier.arrived == block.alive) {
    for (int i = 0; i < block.size; ++i) {
      const Thread& other = block.threads[i];
      if (other.state != Thread::State::at_barrier) continue;
      diverged(barrier.arrived, other, thread);
    }
  }
  thread_exits_warp(thread);
}

// What every fiber does: takes threads and runs them. A thread that never waits costs no switch.
void work() {
  for (;;) {
    Thread* thread = std::exchange(handed_over, nullptr);
    if (thread == nullptr) thread = take_ready();
    Fiber* self = running;
    if (thread != nullptr && thread->fiber == nullptr) {
      thread->fiber = self;
      make_current(*thread);
      block.launch->invocation->run();
      exit_thread(*thread);
    } else {
      idle.push_back(self);
      switch_to(thread == nullptr ? host_fiber : *thread->fiber);
    }
  }
}

Fiber& idle_fiber() {
  if (idle.empty()) {
    Fiber& fiber = fibers[fibers_made];
    prepare_fiber(fiber, static_cast<int>(fibers_made++), work);
    return fiber;
  }
  Fiber& fiber = *idle.back();
  idle.pop_back();
  return fiber;
}

// After a failure some fibers stopped in the middle of a thread: all start over.
void abandon_fibers() {
  idle.clear();
  for (size_t i = 0; i < fibers_made; ++i) {
    prepare_fiber(fibers[i], static_cast<int>(i), work);
    idle.push_back(&fibers[i]);
  }
}

bool run_block() {
  ++counts.blocks;
  counts.threads += block.size;
  block.alive = block.size;
  barrier = {};
  ready_head = 0;
  ready_count = static_cast<unsigned>(block.size);
  for (int i = 0; i < block.size; ++i) {
    block.threads[i].state = Thread::State::ready;
    block.threads[i].caller = {};
    block.threads[i].calls = 0;
    ready[static_cast<unsigned>(i)] = &block.threads[i];
  }
  for (int i = 0; i < block.size; i += 32) {
    const int lanes = block.size - i < 32 ? block.size - i : 32;
    Warp& warp = block.warps[i / 32];
    warp.present = lanes == 32 ? ~0u : (1u << lanes) - 1;
    warp.exited = 0;
    warp.open = 0;
  }
  race_begin_block();
  begin_shared(block.launch->shared_bytes);
  failed = false;
  switch_to(idle_fiber());
  block.current = nullptr;
  if (!failed && block.alive > 0) {
    record_failure(cudaErrorLaunchFailure, "divergent threads",
                   "no thread can go on: " + describe_waiting());
    failed = true;
  }
  if (failed) {
    for (Thread& thread : block.threads) thread.fiber = nullptr;
    abandon_fibers();
    return false;
  }
  if (const std::string overrun = check_shared(); !overrun.empty()) {
    record_failure(cudaErrorLaunchFailure, "shared memory out of bounds", overrun);
    return false;
  }
  return true;
}

}  // namespace

uint64_t draw() {
  random_state ^= random_state << 13;
  random_state ^= random_state >> 7;
  random_state ^= random_state << 17;
  return random_state;
}

bool random_order() { return in_random_order; }
void set_random_order(bool on) { in_random_order = on; }
void set_seed(uint64_t seed) {
  random_state = (seed + 1) * 0x9E3779B97F4A7C15ull | 1;
  for (int i = 0; i < 8; ++i) draw();
}

bool running_on_device() { return running != &host_fiber; }

void wait_current() {
  Thread& self = *block.current;
  Thread* next = take_ready();
  if (next == nullptr) {
    switch_to(host_fiber);
  } else if (next != &self) {
    if (next->fiber != nullptr) {
      switch_to(*next->fiber);
    } else {
      handed_over = next;
      switch_to(idle_fiber());
    }
  }
  make_current(self);
}

void wake(Thread& thread) {
  thread.state = Thread::State::ready;
  ready[(ready_head + ready_count++) & kRing] = &thread;
}

void record_failure(cudaError_t code, const char* check, const std::string& detail) {
  report_failure(code, std::string(check) + " in " + describe_block() + ": " + detail);
}

void end_block() {
  failed = true;
  switch_to(host_fiber);
  __builtin_unreachable();
}

Caller::Caller(Site site) {
  if (block.current->calls++ == 0) block.current->caller = site;
}

Caller::~Caller() {
  if (--block.current->calls == 0) block.current->caller = {};
}

int block_barrier(BarrierOp op, bool predicate, Site site) {
  Thread& self = *block.current;
  self.state = Thread::State::at_barrier;
  self.site = site;
  self.mask = 0;
  if (barrier.arrived++ == 0) barrier.votes = 0;
  barrier.votes += predicate;
  if (barrier.arrived == block.alive) {
    for (int i = 0; i < block.size; ++i) {
      const Thread& other = block.threads[i];
      if (other.state == Thread::State::exited) {
        diverged(block.alive, self, other);
      }
      if (!same_place(other, self)) {
        fail(cudaErrorLaunchFailure, kDivergentBarrier, [&] {
          return describe(self) + " waits at " + describe_place(self) + ", " + describe(other) +
                 " at " + describe_place(other);
        });
      }
    }
    ++counts.barriers;
    barrier.arrived = 0;
    race_barrier();
    for (int i = 0; i < block.size; ++i) {
      block.threads[i].value = static_cast<uint64_t>(barrier.votes);
      wake(block.threads[i]);
    }
  }
  wait_current();
  const int votes = static_cast<int>(self.value);
  switch (op) {
    case BarrierOp::count:
      return votes;
    case BarrierOp::all:
      return votes == block.size;
    case BarrierOp::any:
      return votes > 0;
    case BarrierOp::wait:
      break;
  }
  return 0;
}

bool run_grid(const Launch& launch) {
  ++counts.launches;
  race_begin_launch();
  block.launch = &launch;
  block.size = static_cast<int>(launch.block.x * launch.block.y * launch.block.z);
  gridDim = launch.grid;
  blockDim = launch.block;
  int i = 0;
  for (unsigned z = 0; z < launch.block.z; ++z) {
    for (unsigned y = 0; y < launch.block.y; ++y) {
      for (unsigned x = 0; x < launch.block.x; ++x, ++i) {
        block.threads[i].index = {x, y, z};
        block.threads[i].linear = i;
      }
    }
  }
  const uint64_t blocks = uint64_t{launch.grid.x} * launch.grid.y * launch.grid.z;
  std::vector<uint32_t> order(in_random_order ? blocks : 0);
  for (uint64_t b = 0; b < order.size(); ++b) order[b] = static_cast<uint32_t>(b);
  for (uint64_t b = order.size(); b > 1; --b) std::swap(order[b - 1], order[draw() % b]);
  for (uint64_t b = 0; b < blocks; ++b) {
    const uint64_t k = in_random_order ? order[b] : b;
    blockIdx.x = static_cast<unsigned>(k % launch.grid.x);
    blockIdx.y = static_cast<unsigned>(k / launch.grid.x % launch.grid.y);
    blockIdx.z = static_cast<unsigned>(k / (uint64_t{launch.grid.x} * launch.grid.y));
    if (!run_block()) return false;
  }
  return true;
}

}  // namespace stillpoint::emulation
