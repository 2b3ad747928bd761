#include "engine/memory.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <map>
#include <mutex>
#include <new>
#include <vector>

#include "engine/cuda/runtime.h"
#include "engine/error.h"
#include "kernels/common/sanitizer.h"

namespace stillpoint {
namespace {

constexpr int64_t kAlignment = 64;
#if defined(STILLPOINT_CUDA_EMULATED)
constexpr int64_t kCanaryBytes = 64;
#else
constexpr int64_t kCanaryBytes = 0;
#endif
constexpr unsigned char kCanary = 0xC5;

// Blocks without bytes are blocks too: libraries refuse null pointers.
int64_t rounded(int64_t bytes) {
  const int64_t step = bytes < (int64_t{1} << 20) ? 512 : int64_t{1} << 16;
  return std::max<int64_t>(1, (bytes + step - 1) / step) * step;
}
constexpr int64_t kMostBytes = std::numeric_limits<int64_t>::max() - (int64_t{1} << 20);

class Arena {
 public:
  explicit Arena(Device device) : device_(device) {}

  void* take(int64_t bytes) {
    const std::lock_guard lock(mutex_);
    const int64_t size = rounded(bytes + kCanaryBytes);
    void* p = nullptr;
    auto& bin = free_[size];
    if (!bin.empty()) {
      p = bin.back();
      bin.pop_back();
    } else {
      p = from_system_or_cache(size);
      stats_.reserved += size;
    }
    mark_taken(p, bytes, size);
    stats_.live += size;
    stats_.allocations += 1;
    if (stats_.live > stats_.peak) stats_.peak = stats_.live;
    return p;
  }

  void give_back(void* p, int64_t bytes) noexcept {
    const std::lock_guard lock(mutex_);
    const int64_t size = rounded(bytes + kCanaryBytes);
    mark_returned(p, bytes, size);
    stats_.live -= size;
    free_[size].push_back(p);
  }

  void release_cached() {
    const std::lock_guard lock(mutex_);
    empty_cache();
  }

  MemoryStats stats() {
    const std::lock_guard lock(mutex_);
    return stats_;
  }
  void reset_peak() {
    const std::lock_guard lock(mutex_);
    stats_.peak = stats_.live;
  }

 private:
  // The rest holds the lock.

  void empty_cache() {
    for (auto& [size, blocks] : free_)
      while (!blocks.empty()) {
        void* p = blocks.back();
        blocks.pop_back();
        stats_.reserved -= size;
        asan_unpoison(p, static_cast<size_t>(size));
        to_system(p);
      }
  }
  // Cached blocks of other sizes are given up before memory is said to have run out.
  void* from_system_or_cache(int64_t size) {
    check<DeviceError>(device_ == Device::cpu || !cuda::capturing(),
                       "memory: {} bytes wanted on {} while a graph is captured, when there are "
                       "only the blocks that were freed before, and none has this size",
                       size, name(device_));
    try {
      return from_system(size);
    } catch (const DeviceError&) {
      empty_cache();
      return from_system(size);
    }
  }
  void* from_system(int64_t size) {
    if (device_ == Device::cuda) return cuda::allocate(size);
    void* p = std::aligned_alloc(kAlignment, static_cast<size_t>(size));
    check<DeviceError>(p != nullptr, "memory: {} bytes wanted on {}, the system has none left",
                       size, name(device_));
    if (kCanaryBytes > 0) std::memset(p, 0xFF, static_cast<size_t>(size));
    return p;
  }
  void to_system(void* p) {
    if (device_ == Device::cuda) {
      cuda::free(p);
    } else {
      std::free(p);
    }
  }

  // What is read from a fresh or freed block is NaN, not last step's numbers; what is touched past
  // its end is reported. On the device it is the emulated driver that sees to it, when the work
  // already queued on the block is done.
  void mark_taken(void* p, int64_t bytes, int64_t size) {
    if (device_ == Device::cuda) {
      cuda::take_block(p, bytes, size);
      return;
    }
    asan_poison(p, static_cast<size_t>(size));
    asan_unpoison(p, static_cast<size_t>(bytes + kCanaryBytes));
    std::memset(static_cast<char*>(p) + bytes, kCanary, kCanaryBytes);
    asan_poison(static_cast<char*>(p) + bytes, static_cast<size_t>(kCanaryBytes));
  }
  void mark_returned(void* p, int64_t bytes, int64_t size) noexcept {
    if (device_ == Device::cuda) {
      cuda::return_block(p, size);
      return;
    }
    if (kCanaryBytes > 0) {
      asan_unpoison(p, static_cast<size_t>(size));
      check_canary(p, bytes);
      std::memset(p, 0xFF, static_cast<size_t>(bytes));
    }
    asan_poison(p, static_cast<size_t>(size));
  }

  static void check_canary(const void* p, int64_t bytes) noexcept {
    const unsigned char* end = static_cast<const unsigned char*>(p) + bytes;
    for (int64_t i = 0; i < kCanaryBytes; ++i) {
      if (end[i] == kCanary) continue;
      std::fprintf(stderr,
                   "stillpoint: memory: byte %lld past the end of a block of %lld was written\n",
                   static_cast<long long>(i), static_cast<long long>(bytes));
      std::abort();
    }
  }

  const Device device_;
  std::mutex mutex_;
  std::map<int64_t, std::vector<void*>> free_;
  MemoryStats stats_;
};

// Never destroyed: tensors in static storage may outlive any order of destruction we could choose.
Arena& arena(Device device) {
  static Arena* const cpu = new Arena(Device::cpu);
  static Arena* const cuda = new Arena(Device::cuda);
  return device == Device::cpu ? *cpu : *cuda;
}

}  // namespace

MemoryStats memory_stats(Device device) { return arena(device).stats(); }
void reset_peak_memory(Device device) { arena(device).reset_peak(); }
void release_cached_memory(Device device) { arena(device).release_cached(); }

Block allocate(int64_t bytes, Device device) {
  check<DeviceError>(available(device), "memory: this build or machine has no {} device",
                     name(device));
  check<DeviceError>(bytes >= 0 && bytes <= kMostBytes,
                     "memory: {} bytes wanted on {}, wanted 0 to {}", bytes, name(device),
                     kMostBytes);
  void* p = arena(device).take(bytes);
  return Block(p, [bytes, device](void* q) { arena(device).give_back(q, bytes); });
}

}  // namespace stillpoint
