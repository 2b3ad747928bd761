// Shared memory of the running block: one arena, filled with NaN for every block, with red zones
// before and after each array.
#include <algorithm>
#include <cstring>
#include <vector>

#include "kernels/common/sanitizer.h"
#include "kernels/emulation/block.h"
#include "kernels/emulation/race.h"
#include "kernels/emulation/red_zone.h"

namespace stillpoint::emulation {
namespace {

constexpr size_t kRedZone = 256;
constexpr unsigned char kPoison = 0xff;

struct Placed {
  const char* name;
  size_t offset, bytes;
};

// Not thread_local and not static per array: AddressSanitizer gives those no red zones.
alignas(64) unsigned char arena[kSharedArenaBytes];
auto& placed = *new std::vector<Placed>;
size_t top = sizeof arena;  // the first block poisons all of it
uint64_t blocks = 0;

unsigned char* place(const char* name, size_t bytes, size_t alignment) {
  // No better aligned than promised, so that a wider access to it is caught.
  const size_t before = top, offset = (top + 31) / 32 * 32 + (alignment < 32 ? alignment : 0);
  top = offset + bytes + kRedZone;
  if (top > sizeof arena) {
    fail(cudaErrorLaunchFailure, "shared memory",
         [&] { return std::string(name) + " does not fit: " + std::to_string(bytes) + " bytes"; });
  }
  placed.push_back({name, offset, bytes});
  unsigned char* address = arena + offset;
  asan_unpoison(address, bytes);
  std::memset(address, kPoison, bytes);
  race_mark(address, bytes, Memory::uninitialised);
  fill_red_zone(arena + before, offset - before);
  fill_red_zone(address + bytes, kRedZone);
  return address;
}

}  // namespace

void begin_shared(size_t dynamic_bytes) {
  ++blocks;
  asan_poison(arena, top);
  race_mark(arena, top, Memory::unusable);
  top = kRedZone;
  fill_red_zone(arena, kRedZone);
  placed.clear();
  place("dynamic shared memory", dynamic_bytes, 16);
}

void* dynamic_shared() { return arena + placed[0].offset; }

void* shared_array(SharedArray& array) {
  if (array.block != blocks) {
    size_t total = array.bytes;
    for (size_t i = 1; i < placed.size(); ++i) total += placed[i].bytes;
    // nvcc allows so much for static arrays; the launch, for these and the dynamic memory together.
    const size_t asked = block.launch->shared_asked, dynamic = block.launch->shared_bytes;
    const size_t together = total + std::max(asked, dynamic);
    if (total > kSharedBytesUnasked ||
        together > (asked > 0 ? kMaxSharedBytes : kSharedBytesUnasked)) {
      fail(cudaErrorLaunchFailure, "shared memory", [&] {
        return std::to_string(total) + " bytes of static arrays with " + array.name + " beside " +
               std::to_string(together - total) + " dynamic ones, the limit is " +
               std::to_string(asked > 0 ? kMaxSharedBytes : kSharedBytesUnasked);
      });
    }
    array.address = place(array.name, array.bytes, array.alignment);
    array.block = blocks;
  }
  return array.address;
}

ptrdiff_t shared_offset(const void* address) {
  const auto* p = static_cast<const unsigned char*>(address);
  return p >= arena && p < arena + sizeof arena ? p - arena : -1;
}

std::string describe_shared(const void* address) {
  const auto offset = static_cast<size_t>(shared_offset(address));
  const Placed* nearest = &placed[0];
  for (const Placed& p : placed) {
    if (offset + 16 >= p.offset) nearest = &p;
  }
  return "byte " + std::to_string(static_cast<ptrdiff_t>(offset - nearest->offset)) + " of " +
         nearest->name + " (" + std::to_string(nearest->bytes) + " bytes)";
}

std::string check_shared() {
  const unsigned char* zone = arena;  // after the array before, until this one
  for (const Placed& p : placed) {
    const unsigned char *begin = arena + p.offset, *end = begin + p.bytes;
    if (const void* written = find_written(zone, static_cast<size_t>(begin - zone));
        written != nullptr) {
      return "written " + std::to_string(begin - static_cast<const unsigned char*>(written)) +
             " bytes before the start of " + p.name + " (" + std::to_string(p.bytes) + " bytes)";
    }
    zone = end + kRedZone;
    if (const void* written = find_written(end, kRedZone); written != nullptr) {
      return "written " + std::to_string(static_cast<const unsigned char*>(written) - end) +
             " bytes past the end of " + p.name + " (" + std::to_string(p.bytes) + " bytes)";
    }
  }
  return "";
}

}  // namespace stillpoint::emulation
