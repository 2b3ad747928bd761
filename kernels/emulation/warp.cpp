// Shuffles, votes and reductions of a warp: the last lane that its mask names completes them all.
#include <bit>
#include <cstdio>
#include <string>

#include "kernels/emulation/block.h"
#include "kernels/emulation/race.h"

namespace stillpoint::emulation {
namespace {

std::string hex(unsigned mask) {
  char text[16];
  std::snprintf(text, sizeof text, "0x%08x", mask);
  return text;
}

// The lane a shuffle reads, as PTX's shfl.sync defines it: a lane outside the segment reads itself.
int source_lane(const Thread& thread) {
  const int lane = thread.lane(), segment = lane & ~(thread.width - 1);
  const int last = segment + thread.width - 1;
  int source = lane;
  switch (thread.op) {
    case WarpOp::shuffle:
      return segment | (thread.argument & (thread.width - 1));
    case WarpOp::shuffle_up:
      source = lane - thread.argument;
      return source < segment ? lane : source;
    case WarpOp::shuffle_down:
      source = lane + thread.argument;
      return source > last ? lane : source;
    default:
      source = lane ^ thread.argument;
      return source > last || source < 0 ? lane : source;
  }
}

uint64_t reduce(WarpOp op, uint64_t a, uint64_t b) {
  const auto x = static_cast<unsigned>(a), y = static_cast<unsigned>(b);
  const auto i = static_cast<int>(x), j = static_cast<int>(y);
  switch (op) {
    case WarpOp::reduce_add:
      return x + y;
    case WarpOp::reduce_min:
      return static_cast<unsigned>(i < j ? i : j);
    case WarpOp::reduce_max:
      return static_cast<unsigned>(i > j ? i : j);
    case WarpOp::reduce_min_unsigned:
      return x < y ? x : y;
    case WarpOp::reduce_max_unsigned:
      return x > y ? x : y;
    case WarpOp::reduce_and:
    case WarpOp::all:
      return a & b;
    case WarpOp::reduce_xor:
      return a ^ b;
    default:
      return a | b;
  }
}

void complete(int warp, const Meeting& meeting, WarpOp op) {
  uint64_t values[32], result[32], all = 0;
  bool first = true;
  for (unsigned m = meeting.arrived; m != 0; m &= m - 1) {
    const int lane = std::countr_zero(m);
    values[lane] = block.thread_of(warp, lane).value;
    const uint64_t value = op == WarpOp::ballot ? values[lane] << lane : values[lane];
    all = first ? value : reduce(op, all, value);
    first = false;
  }
  for (unsigned m = meeting.arrived; m != 0; m &= m - 1) {
    const int lane = std::countr_zero(m);
    result[lane] = all;
    if (op == WarpOp::match_any) {
      result[lane] = 0;
      for (unsigned other = meeting.arrived; other != 0; other &= other - 1) {
        const int k = std::countr_zero(other);
        if (values[k] == values[lane]) result[lane] |= uint64_t{1} << k;
      }
    } else if (op >= WarpOp::shuffle && op <= WarpOp::shuffle_xor) {
      const int source = source_lane(block.thread_of(warp, lane));
      // CUDA leaves the value of a lane that takes no part undefined: here it is NaN.
      result[lane] = meeting.arrived >> source & 1 ? values[source] : ~uint64_t{0};
    }
  }
  for (unsigned m = meeting.arrived; m != 0; m &= m - 1) {
    const int lane = std::countr_zero(m);
    block.thread_of(warp, lane).value = result[lane];
    wake(block.thread_of(warp, lane));
  }
}

template <class Why>
[[noreturn]] void wrong(const Thread& self, Why why) {
  fail(cudaErrorLaunchFailure, "wrong warp mask", [&] {
    return describe(self) + " calls " + name_of(self.op) + " at " + describe_place(self) +
           " with mask " + hex(self.mask) + why();
  });
}

// The meeting that this lane belongs to, or a new one.
Meeting& join(Warp& warp, const Thread& self) {
  for (int i = 0; i < warp.open; ++i) {
    Meeting& meeting = warp.meetings[i];
    if (meeting.mask != self.mask) continue;
    const Thread& other = block.thread_of(self.warp(), std::countr_zero(meeting.arrived));
    if (other.op != self.op || (self.op != WarpOp::sync && !same_place(other, self))) {
      wrong(self, [&] {
        return ", " + describe(other) + " calls " + name_of(other.op) + " at " +
               describe_place(other) + " with the same mask";
      });
    }
    return meeting;
  }
  return warp.meetings[warp.open++] = {self.mask, 0};
}

}  // namespace

const char* name_of(WarpOp op) {
  switch (op) {
    case WarpOp::sync:
      return "__syncwarp";
    case WarpOp::shuffle:
      return "__shfl_sync";
    case WarpOp::shuffle_up:
      return "__shfl_up_sync";
    case WarpOp::shuffle_down:
      return "__shfl_down_sync";
    case WarpOp::shuffle_xor:
      return "__shfl_xor_sync";
    case WarpOp::ballot:
      return "__ballot_sync";
    case WarpOp::all:
      return "__all_sync";
    case WarpOp::any:
      return "__any_sync";
    case WarpOp::match_any:
      return "__match_any_sync";
    default:
      return "__reduce_sync";
  }
}

uint64_t warp_operation(WarpOp op, unsigned mask, uint64_t value, int argument, int width,
                        Site site) {
  Thread& self = *block.current;
  Warp& warp = block.warps[self.warp()];
  const unsigned named = mask & warp.present, bit = 1u << self.lane();
  self.op = op, self.mask = mask, self.site = site;
  self.value = value, self.argument = argument, self.width = width;
  if ((mask & bit) == 0) {
    wrong(self,
          [&] { return ", which leaves itself out (lane " + std::to_string(self.lane()) + ")"; });
  }
  if ((named & warp.exited) != 0) {
    wrong(self, [&] {
      return ", which names lane " + std::to_string(std::countr_zero(named & warp.exited)) +
             ": that lane has exited";
    });
  }
  if (width < 1 || width > 32 || (width & (width - 1)) != 0) {
    wrong(self, [&] {
      return " and width " + std::to_string(width) + ": it must be a power of two up to 32";
    });
  }
  self.state = Thread::State::in_warp_operation;
  Meeting& meeting = join(warp, self);
  meeting.arrived |= bit;
  if (meeting.arrived == named) {
    ++counts.warp_operations;
    // Of all warp operations __syncwarp alone orders memory; a shuffle does not.
    if (op == WarpOp::sync) race_sync_warp(self.warp(), meeting.arrived);
    complete(self.warp(), meeting, op);
    meeting = warp.meetings[--warp.open];
  }
  wait_current();
  return self.value;
}

void thread_exits_warp(Thread& thread) {
  Warp& warp = block.warps[thread.warp()];
  const unsigned bit = 1u << thread.lane();
  warp.exited |= bit;
  for (int i = 0; i < warp.open; ++i) {
    const Meeting& meeting = warp.meetings[i];
    if ((meeting.mask & bit) == 0) continue;
    const Thread& other = block.thread_of(thread.warp(), std::countr_zero(meeting.arrived));
    fail(cudaErrorLaunchFailure, "wrong warp mask", [&] {
      return std::to_string(std::popcount(meeting.arrived)) + " lanes wait in " +
             name_of(other.op) + " at " + describe_place(other) + " with mask " +
             hex(meeting.mask) + ", " + describe(thread) + " (lane " +
             std::to_string(thread.lane()) + ") exited without reaching it";
    });
  }
}

void atomic_access(const void* address, size_t bytes, const void* caller) {
  if (race_check()) race_access(address, bytes, Access::atomic, caller);
}

unsigned active_mask() { return 1u << block.current->lane(); }

void trap(Site site) {
  fail(cudaErrorLaunchFailure, "trap",
       [&] { return describe(*block.current) + " at " + describe(site); });
}

}  // namespace stillpoint::emulation
