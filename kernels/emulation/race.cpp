#include "kernels/emulation/race.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "kernels/emulation/block.h"
#include "kernels/emulation/heap.h"

namespace stillpoint::emulation {

bool instrumented = false;  // set by __tsan_init, which instrumented files call at the start

namespace {

// What is known about four bytes. Sets of bytes are masks of four bits.
struct Cell {
  const void *write_caller = nullptr, *read_caller = nullptr;
  uint32_t write_epoch = 0, write_clock = 0;
  uint32_t read_epoch = 0, read_clock = 0, read_lanes = 0;
  uint16_t write_thread = 0, read_warp = 0;
  uint8_t usable = 0, initialised = 0, written = 0, read = 0;
  bool write_was_atomic = false;
  bool read_by_other_warps = false;   // than read_warp, in the same epoch
  bool read_by_other_blocks = false;  // than the one of read_epoch, in the same launch
};

// An epoch is the time between two barriers of one block; blocks run one after the other, so that
// epochs are numbered through. Within an epoch each lane of a warp has a clock that __syncwarp
// moves, and knows how far the other lanes' clocks were when it last met them.
uint32_t epoch = 1, first_of_block = 1, first_of_launch = 1;
uint32_t clocks[kMaxThreads][32];

// Device memory is watched by pages, whose cells are made when a kernel first touches one.
constexpr size_t kPageBytes = 4096, kCells = kPageBytes / 4;
struct Page {
  std::unique_ptr<Cell[]> cells;
  Memory state = Memory::unusable;  // of all of it, while there are no cells
};
auto& device_pages = *new std::vector<Page>;
Cell shared_cells[kSharedArenaBytes / 4];

Page& page_of(const void* address) {
  const size_t number = static_cast<size_t>(device_offset(address)) / kPageBytes;
  if (number >= device_pages.size()) device_pages.resize(number + 1);
  return device_pages[number];
}

Cell& cell_of(const void* address) {
  if (const ptrdiff_t offset = shared_offset(address); offset >= 0) return shared_cells[offset / 4];
  Page& page = page_of(address);
  if (page.cells == nullptr) {
    page.cells = std::make_unique<Cell[]>(kCells);
    for (size_t i = 0; i < kCells; ++i) {
      page.cells[i].usable = page.state == Memory::unusable ? 0 : 15;
      page.cells[i].initialised = page.state == Memory::initialised ? 15 : 0;
    }
  }
  return page.cells[static_cast<size_t>(device_offset(address)) % kPageBytes / 4];
}

// Whether what thread `thread` of this block did at (then, clock) comes before what `self` does.
bool ordered(const Thread& self, uint32_t then, uint32_t clock, int thread) {
  if (then < epoch) return then < first_of_launch || then >= first_of_block;
  return thread == self.linear ||
         (thread / 32 == self.warp() && clocks[self.linear][thread % 32] >= clock);
}

bool write_ordered(const Cell& cell, const Thread& self) {
  return ordered(self, cell.write_epoch, cell.write_clock, cell.write_thread);
}

bool reads_ordered(const Cell& cell, const Thread& self) {
  if (cell.read_by_other_blocks && cell.read_epoch >= first_of_launch) return false;
  if (cell.read_epoch < epoch) return ordered(self, cell.read_epoch, 0, 0);
  if (cell.read_by_other_warps) return false;
  for (unsigned lanes = cell.read_lanes; lanes != 0; lanes &= lanes - 1) {
    const int thread = cell.read_warp * 32 + std::countr_zero(lanes);
    if (!ordered(self, cell.read_epoch, cell.read_clock, thread)) return false;
  }
  return true;
}

void note_read(Cell& cell, const Thread& self, unsigned bytes, const void* caller) {
  const uint32_t clock = clocks[self.linear][self.lane()];
  const auto warp = static_cast<uint16_t>(self.warp());
  if (cell.read == 0 || cell.read_epoch != epoch) {
    const bool other_block = cell.read != 0 && cell.read_epoch >= first_of_launch &&
                             (cell.read_epoch < first_of_block || cell.read_by_other_blocks);
    cell.read_by_other_blocks = other_block;
    cell.read_by_other_warps = false;
    cell.read_warp = warp;
    cell.read_lanes = 0;
    cell.read = 0;
  } else if (cell.read_warp != warp) {
    cell.read_by_other_warps = true;
  } else if (cell.read_clock != clock) {
    cell.read_lanes = 0;
  }
  cell.read_epoch = epoch;
  if (cell.read_warp == warp) {
    cell.read_clock = clock;
    cell.read_lanes |= 1u << self.lane();
  }
  cell.read = static_cast<uint8_t>(cell.read | bytes);
  cell.read_caller = caller;
}

void note_write(Cell& cell, const Thread& self, unsigned bytes, bool atomic, const void* caller) {
  cell.write_epoch = epoch;
  cell.write_clock = clocks[self.linear][self.lane()];
  cell.write_thread = static_cast<uint16_t>(self.linear);
  cell.write_was_atomic = atomic;
  cell.written = static_cast<uint8_t>(bytes);
  cell.initialised = static_cast<uint8_t>(cell.initialised | bytes);
  cell.write_caller = caller;
  cell.read = 0;
  cell.read_by_other_warps = cell.read_by_other_blocks = false;
}

const char* verb(Access access) {
  return access == Access::read ? " reads " : access == Access::write ? " writes " : " updates ";
}

std::string this_access(const Thread& self, const void* address, Access access,
                        const void* caller) {
  return describe(self) + verb(access) +
         (shared_offset(address) >= 0 ? describe_shared(address) : describe_address(address)) +
         " at " + source_line(caller);
}

[[noreturn]] void report_race(const Thread& self, const void* address, Access access,
                              const void* caller, const Cell& cell, bool earlier_write) {
  const uint32_t then = earlier_write ? cell.write_epoch : cell.read_epoch;
  const bool other_block = then < first_of_block;
  const int other = earlier_write
                        ? cell.write_thread
                        : cell.read_warp * 32 + std::countr_zero(cell.read_lanes | 1u << 31);
  const char* did = !earlier_write ? " read" : cell.write_was_atomic ? " updated" : " wrote";
  fail(cudaErrorLaunchFailure,
       shared_offset(address) >= 0 ? "race in shared memory" : "race in device memory", [&] {
         return this_access(self, address, access, caller) + ", " +
                (other_block ? "another block" : describe(block.threads[other])) + did + " it at " +
                source_line(earlier_write ? cell.write_caller : cell.read_caller) +
                ", and nothing orders the two";
       });
}

// A library's twin writes device memory unseen; what no longer looks like poison has been written.
bool looks_uninitialised(const void* address, size_t bytes) {
  const auto* p = static_cast<const unsigned char*>(address);
  return std::all_of(p, p + bytes, [](unsigned char byte) { return byte == 0xff; });
}

void access_cell(const Thread& self, const char* address, size_t bytes, Access access,
                 const void* caller) {
  Cell& cell = cell_of(address);
  const auto mask = ((1u << bytes) - 1) << (reinterpret_cast<uintptr_t>(address) & 3);
  const bool shared = shared_offset(address) >= 0;
  const auto said = [&] { return this_access(self, address, access, caller); };
  if ((cell.usable & mask) != mask) {
    fail(cudaErrorIllegalAddress,
         shared ? "shared memory out of bounds" : "device memory out of bounds", said);
  }
  if (access != Access::write && (cell.initialised & mask) != mask) {
    if (looks_uninitialised(address, bytes)) {
      fail(cudaErrorLaunchFailure,
           shared ? "uninitialised shared memory" : "uninitialised device memory", said);
    }
    cell.initialised = static_cast<uint8_t>(cell.initialised | mask);
  }
  const bool both_atomic = access == Access::atomic && cell.write_was_atomic;
  if ((cell.written & mask) != 0 && !both_atomic && !write_ordered(cell, self)) {
    report_race(self, address, access, caller, cell, true);
  }
  if (access == Access::read) {
    note_read(cell, self, mask, caller);
  } else {
    if ((cell.read & mask) != 0 && !reads_ordered(cell, self)) {
      report_race(self, address, access, caller, cell, false);
    }
    note_write(cell, self, mask, access == Access::atomic, caller);
  }
}

// Memory that a kernel may use besides shared and device memory: its stack, its arguments, its
// indices, and the program's own constants.
bool private_memory(const void* address) {
  const auto* p = static_cast<const char*>(address);
  const auto* arguments = reinterpret_cast<const char*>(block.launch->invocation.get());
  const auto is = [address](const auto& variable) {
    const auto* begin = reinterpret_cast<const char*>(&variable);
    return address >= begin && address < begin + sizeof variable;
  };
  return on_fiber_stack(address) || is(threadIdx) || is(blockIdx) || is(blockDim) || is(gridDim) ||
         (p >= arguments && p < arguments + block.launch->invocation_bytes) ||
         in_constant_data(address);
}

// The state of device memory from `p` on, and of how many bytes: at most `bytes`, within a page.
Memory state_of(const char* p, size_t bytes, size_t* run) {
  const Page& page = page_of(p);
  const size_t offset = static_cast<size_t>(device_offset(p)) % kPageBytes;
  *run = std::min(bytes, kPageBytes - offset);
  if (page.cells == nullptr) {
    if (page.state != Memory::uninitialised || looks_uninitialised(p, *run)) return page.state;
  }
  const auto state = [&](size_t i) {
    if (page.cells == nullptr) {
      return looks_uninitialised(p + i, 1) ? Memory::uninitialised : Memory::initialised;
    }
    const Cell& cell = page.cells[(offset + i) / 4];
    const unsigned bit = 1u << ((offset + i) & 3);
    if ((cell.usable & bit) == 0) return Memory::unusable;
    return (cell.initialised & bit) != 0 || !looks_uninitialised(p + i, 1) ? Memory::initialised
                                                                           : Memory::uninitialised;
  };
  for (size_t i = 1; i < *run; ++i) {
    if (state(i) != state(0)) *run = i;
  }
  return state(0);
}

const char* find_unusable(const char* p, size_t bytes) {
  size_t run = 0;
  for (const char* end = p + bytes; p < end; p += run) {
    if (state_of(p, static_cast<size_t>(end - p), &run) == Memory::unusable) return p;
  }
  return nullptr;
}

}  // namespace

bool race_check() { return instrumented; }

void race_begin_launch() { first_of_launch = epoch + 1; }

void race_begin_block() {
  first_of_block = ++epoch;
  if (!instrumented) return;
  std::memset(clocks, 0, static_cast<size_t>(block.size) * sizeof clocks[0]);
  for (int i = 0; i < block.size; ++i) clocks[i][i % 32] = 1;
}

void race_barrier() { ++epoch; }

void race_sync_warp(int warp, unsigned mask) {
  if (!instrumented) return;
  uint32_t met[32] = {};
  for (unsigned m = mask; m != 0; m &= m - 1) {
    const uint32_t* known = clocks[warp * 32 + std::countr_zero(m)];
    for (int i = 0; i < 32; ++i) met[i] = std::max(met[i], known[i]);
  }
  for (unsigned m = mask; m != 0; m &= m - 1) {
    const int lane = std::countr_zero(m);
    std::memcpy(clocks[warp * 32 + lane], met, sizeof met);
    ++clocks[warp * 32 + lane][lane];
  }
}

void race_access(const void* address, size_t bytes, Access access, const void* caller) {
  if (!running_on_device()) return;
  const Thread& self = *block.current;
  if (shared_offset(address) < 0 && !in_device_heap(address)) {
    if (private_memory(address)) return;
    fail(cudaErrorIllegalAddress, "host memory",
         [&] { return this_access(self, address, access, caller); });
  }
  const auto* p = static_cast<const char*>(address);
  for (const char* end = p + bytes; p < end;) {
    const size_t in_cell = 4 - (reinterpret_cast<uintptr_t>(p) & 3);
    const size_t here = std::min(in_cell, static_cast<size_t>(end - p));
    access_cell(self, p, here, access, caller);
    p += here;
  }
}

void race_mark(const void* address, size_t bytes, Memory state) {
  if (!instrumented) return;
  const bool shared = shared_offset(address) >= 0;
  const auto* p = static_cast<const char*>(address);
  for (const char* end = p + bytes; p < end;) {
    if (!shared && device_offset(p) % kPageBytes == 0 && p + kPageBytes <= end) {
      page_of(p) = {nullptr, state};
      p += kPageBytes;
      continue;
    }
    const size_t in_cell = 4 - (reinterpret_cast<uintptr_t>(p) & 3);
    const size_t here = std::min(in_cell, static_cast<size_t>(end - p));
    const auto mask = static_cast<uint8_t>(((1u << here) - 1) << (4 - in_cell));
    Cell& cell = cell_of(p);
    const auto usable = static_cast<uint8_t>(cell.usable & ~mask);
    const auto initialised = static_cast<uint8_t>(cell.initialised & ~mask);
    cell = Cell{};
    cell.usable = state == Memory::unusable ? usable : usable | mask;
    cell.initialised = state == Memory::initialised ? initialised | mask : initialised;
    p += here;
  }
}

std::string race_copy(const void* to, const void* from, size_t bytes) {
  if (!instrumented) return "";
  const bool from_device = in_device_heap(from);
  const auto* source = static_cast<const char*>(from);
  const auto* target = static_cast<const char*>(to);
  if (from_device) {
    const char* wrong = find_unusable(source, bytes);
    if (wrong != nullptr) return "reads " + describe_address(wrong);
  }
  if (!in_device_heap(to)) return "";
  if (const char* wrong = find_unusable(target, bytes); wrong != nullptr) {
    return "writes " + describe_address(wrong);
  }
  if (!from_device) {
    race_mark(to, bytes, Memory::initialised);
    return "";
  }
  size_t run = 0;
  for (size_t done = 0; done < bytes; done += run) {
    const Memory state = state_of(source + done, bytes - done, &run);
    race_mark(target + done, run, state);
  }
  return "";
}

}  // namespace stillpoint::emulation
