// One caching arena per device. Freed blocks are kept by size and handed out again, so that a
// training loop allocates from the system in its first step only. Blocks are reused in stream
// order: the engine puts all work of a device on one stream (engine/cuda/runtime.h).
//
// In sanitizer builds red zones and freed blocks are poisoned; in builds with emulated CUDA every
// block is followed by a canary that is checked when it is freed.
#pragma once

#include <cstdint>
#include <memory>

#include "engine/device.h"

namespace stillpoint {

struct MemoryStats {
  int64_t live = 0;         // bytes in blocks now held by tensors
  int64_t peak = 0;         // largest `live` since the start or reset_peak_memory
  int64_t reserved = 0;     // bytes taken from the system, held or cached
  int64_t allocations = 0;  // blocks handed out so far
};

MemoryStats memory_stats(Device device);
void reset_peak_memory(Device device);
// Returns the cached, unused blocks of a device to the system.
void release_cached_memory(Device device);

// A block of memory; freed into its arena when the last owner lets go. Contents are unspecified.
using Block = std::shared_ptr<void>;
Block allocate(int64_t bytes, Device device);

}  // namespace stillpoint
