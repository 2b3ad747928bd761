// Shared memory of the running block: one arena, filled with NaN for every block, with a red zone
// after each array.
#include <algorithm>
#include <cstring>
#include <vector>

#include "kernels/emulation/block.h"
#include "kernels/emulation/sanitizer.h"

namespace stillpoint::emulation {
namespace {

constexpr size_t kRedZone = 32;
constexpr unsigned char kPoison = 0xff, kCanary = 0xca;
constexpr size_t kMaxStaticBytes = 49152;  // what nvcc allows for static arrays

struct Placed {
  const char* name;
  size_t offset, bytes;
};

// Not thread_local and not static per array: AddressSanitizer gives those no red zones.
alignas(64) unsigned char arena[kMaxSharedBytes + 64 * 1024];
std::vector<Placed> placed;
size_t top = 0;
uint64_t blocks = 0;

unsigned char* place(const char* name, size_t bytes, size_t alignment) {
  // No better aligned than promised, so that a wider access to it is caught.
  const size_t offset = (top + 31) / 32 * 32 + (alignment < 32 ? alignment : 0);
  top = offset + bytes + kRedZone;
  if (top > sizeof arena) {
    fail(cudaErrorLaunchFailure, "shared memory",
         std::string(name) + " does not fit: " + std::to_string(bytes) + " bytes");
  }
  placed.push_back({name, offset, bytes});
  unsigned char* address = arena + offset;
  asan_unpoison(address, bytes);
  std::memset(address, kPoison, bytes);
#ifndef STILLPOINT_ASAN
  std::memset(address + bytes, kCanary, kRedZone);
#endif
  return address;
}

}  // namespace

void begin_shared(size_t dynamic_bytes) {
  ++blocks;
  asan_poison(arena, std::max(top, size_t{1}));
  top = 0;
  placed.clear();
  place("dynamic shared memory", dynamic_bytes, 16);
}

void* dynamic_shared() { return arena + placed[0].offset; }

void* shared_array(SharedArray& array) {
  if (array.block != blocks) {
    size_t total = array.bytes;
    for (size_t i = 1; i < placed.size(); ++i) total += placed[i].bytes;
    if (total > kMaxStaticBytes) {
      fail(cudaErrorLaunchFailure, "shared memory",
           std::to_string(total) + " bytes of static arrays with " + array.name +
               ", the limit is " + std::to_string(kMaxStaticBytes));
    }
    array.address = place(array.name, array.bytes, array.alignment);
    array.block = blocks;
  }
  return array.address;
}

std::string check_shared() {
#ifndef STILLPOINT_ASAN  // which reports the access itself
  for (const Placed& p : placed) {
    for (size_t i = 0; i < kRedZone; ++i) {
      if (arena[p.offset + p.bytes + i] == kCanary) continue;
      return "written " + std::to_string(i) + " bytes past the end of " + p.name + " (" +
             std::to_string(p.bytes) + " bytes)";
    }
  }
#endif
  return "";
}

}  // namespace stillpoint::emulation
