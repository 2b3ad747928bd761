#include "kernels/emulation/heap.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <map>
#include <vector>

#include "kernels/common/sanitizer.h"
#include "kernels/emulation/emulation.h"
#include "kernels/emulation/race.h"
#include "kernels/emulation/red_zone.h"

namespace stillpoint::emulation {
namespace {

constexpr size_t kReserved = size_t{1} << 40;  // address space only
constexpr size_t kPage = 4096, kRedZone = 256;
constexpr unsigned char kPoison = 0xff;

struct Range {
  char* begin;
  size_t bytes;
};

struct Block {
  char* address;
  size_t bytes, capacity;
};

char* base = nullptr;
char* top = nullptr;
// Never destroyed, here and in the other files: static objects of a program may free what they hold
// after any order of destruction.
auto& allocations =
    *new std::map<uintptr_t, Allocation>;        // by address; freed ones too, for messages
auto& blocks = *new std::map<uintptr_t, Block>;  // parts of allocations, likewise
auto& opened = *new std::vector<Allocation*>;    // what work on the device has touched so far
bool accessible = false;
size_t in_use = 0, limit = kDeviceBytes;
uint64_t numbers = 0;

size_t paged_bytes(size_t bytes) { return (bytes + 2 * kRedZone + kPage - 1) / kPage * kPage; }
char* pages_of(const Allocation& a) { return a.address - kRedZone; }

void protect(const Allocation& a, int protection) {
  mprotect(pages_of(a), paged_bytes(a.bytes), protection);
}

void open(Allocation& a) {
  if (a.open || !a.live) return;
  protect(a, PROT_READ | PROT_WRITE);
  a.open = true;
  opened.push_back(&a);
}

void set_access(bool allowed) {
  accessible = allowed;
  if (allowed) return;
  for (Allocation* a : opened) {
    if (a->live) protect(*a, PROT_NONE);
    a->open = false;
  }
  opened.clear();
}

// The bytes after the allocation's end that are its red zone.
size_t tail_bytes(const Allocation& a) { return paged_bytes(a.bytes) - kRedZone - a.bytes; }

// The first byte of a red zone that a stray write has changed, or nullptr. Mends the zone.
const char* find_written(Range zone) {
  const char* written = emulation::find_written(zone.begin, zone.bytes);
  if (written != nullptr) fill_red_zone(zone.begin, zone.bytes);
  return written;
}
const char* find_written(const Block& block) {
  return find_written(Range{block.address + block.bytes, block.capacity - block.bytes});
}
const char* find_written(const Allocation& a) {
  const char* written = find_written(Range{pages_of(a), kRedZone});
  if (written == nullptr) written = find_written(Range{a.address + a.bytes, tail_bytes(a)});
  const auto key = reinterpret_cast<uintptr_t>(a.address);
  for (auto b = blocks.lower_bound(key); b != blocks.end() && b->first < key + a.bytes; ++b) {
    if (written != nullptr) break;
    written = find_written(b->second);
  }
  return written;
}

// What has been written of the red zone of the block that starts there, if there is one.
std::string check_block(const char* address) {
  const auto found = blocks.find(reinterpret_cast<uintptr_t>(address));
  const char* written = found == blocks.end() ? nullptr : find_written(found->second);
  return written == nullptr ? "" : "written " + describe_address(written);
}

// "8 bytes past the end of"
std::string describe_offset(const void* address, const char* begin, size_t bytes) {
  const auto offset = static_cast<const char*>(address) - begin;
  const auto size = static_cast<ptrdiff_t>(bytes);
  if (offset < 0) return std::to_string(-offset) + " bytes before the start of";
  if (offset >= size) return std::to_string(offset - size) + " bytes past the end of";
  return "byte " + std::to_string(offset) + " of";
}

}  // namespace

void* allocate_device(size_t bytes) {
  if (base == nullptr) {
    void* region =
        mmap(nullptr, kReserved, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (region == MAP_FAILED) return nullptr;
    base = top = static_cast<char*>(region);
  }
  const size_t paged = paged_bytes(bytes);
  if (bytes > limit || in_use + bytes > limit || top + paged > base + kReserved) return nullptr;
  const Allocation a{top + kRedZone, bytes, ++numbers};
  if (mprotect(top, paged, PROT_READ | PROT_WRITE) != 0) return nullptr;
  fill_red_zone(top, kRedZone);
  std::memset(a.address, kPoison, bytes);
  fill_red_zone(a.address + bytes, tail_bytes(a));
  asan_poison(top, paged);
  asan_unpoison(a.address, bytes);
  race_mark(a.address, bytes, Memory::uninitialised);
  protect(a, PROT_NONE);
  top += paged;
  in_use += bytes;
  allocations[reinterpret_cast<uintptr_t>(a.address)] = a;
  return a.address;
}

bool free_device(void* address) {
  const auto found = allocations.find(reinterpret_cast<uintptr_t>(address));
  if (found == allocations.end() || !found->second.live) return false;
  Allocation& a = found->second;
  a.live = false;
  in_use -= a.bytes;
  const auto key = reinterpret_cast<uintptr_t>(address);
  blocks.erase(blocks.lower_bound(key), blocks.lower_bound(key + a.bytes));
  asan_poison(pages_of(a), paged_bytes(a.bytes));
  race_mark(a.address, a.bytes, Memory::unusable);
  protect(a, PROT_NONE);
  madvise(pages_of(a), paged_bytes(a.bytes), MADV_DONTNEED);
  return true;
}

std::string open_block(void* address, size_t bytes, size_t capacity) {
  char* p = static_cast<char*>(address);
  std::string overrun = check_block(p);
  asan_unpoison(p, capacity);
  std::memset(p, kPoison, bytes);
  fill_red_zone(p + bytes, capacity - bytes);
  asan_poison(p + bytes, capacity - bytes);
  race_mark(p, bytes, Memory::uninitialised);
  race_mark(p + bytes, capacity - bytes, Memory::unusable);
  blocks[reinterpret_cast<uintptr_t>(p)] = {p, bytes, capacity};
  return overrun;
}

std::string close_block(void* address, size_t capacity) {
  char* p = static_cast<char*>(address);
  std::string overrun = check_block(p);
  asan_unpoison(p, capacity);
  fill_red_zone(p, capacity);
  asan_poison(p, capacity);
  race_mark(p, capacity, Memory::unusable);
  blocks[reinterpret_cast<uintptr_t>(p)] = {p, 0, capacity};
  return overrun;
}

bool in_device_heap(const void* address) {
  const auto* p = static_cast<const char*>(address);
  return base != nullptr && p >= base && p < base + kReserved;
}

ptrdiff_t device_offset(const void* address) { return static_cast<const char*>(address) - base; }

const Allocation* find_allocation(const void* address) {
  if (!in_device_heap(address) || allocations.empty()) return nullptr;
  // The red zone before an allocation belongs to it.
  auto after = allocations.upper_bound(reinterpret_cast<uintptr_t>(address) + kRedZone);
  return after == allocations.begin() ? nullptr : &std::prev(after)->second;
}

bool open_allocation(const void* address) {
  const Allocation* found = find_allocation(address);
  const auto* p = static_cast<const char*>(address);
  if (!accessible || found == nullptr || !found->live || found->open ||
      p >= pages_of(*found) + paged_bytes(found->bytes)) {
    return false;
  }
  open(allocations.at(reinterpret_cast<uintptr_t>(found->address)));
  return true;
}

void open_arguments(const void* arguments, size_t bytes) {
  for (size_t i = 0; i + sizeof(void*) <= bytes; i += sizeof(void*)) {
    const void* pointer = nullptr;
    std::memcpy(&pointer, static_cast<const char*>(arguments) + i, sizeof pointer);
    open_allocation(pointer);
  }
}

bool inside_one_allocation(const void* address, size_t bytes) {
  const Allocation* a = find_allocation(address);
  if (a == nullptr || !a->live) return false;
  const auto* p = static_cast<const char*>(address);
  return p >= a->address && p <= a->address + a->bytes &&
         bytes <= static_cast<size_t>(a->address + a->bytes - p);
}

size_t device_bytes_in_use() { return in_use; }
size_t device_bytes_limit() { return limit; }
void set_memory_limit(size_t bytes) { limit = bytes; }

std::string check_red_zones() {
  const char* written = nullptr;
  for (size_t i = 0; i < opened.size() && written == nullptr; ++i) {
    written = find_written(*opened[i]);
  }
  return written == nullptr ? "" : "written " + describe_address(written);
}

std::string check_red_zones(const void* arguments, size_t bytes) {
  const char* written = nullptr;
  for (size_t i = 0; i + sizeof(void*) <= bytes && written == nullptr; i += sizeof(void*)) {
    const void* pointer = nullptr;
    std::memcpy(&pointer, static_cast<const char*>(arguments) + i, sizeof pointer);
    const Allocation* a = find_allocation(pointer);
    if (a != nullptr && a->open) written = find_written(*a);
  }
  return written == nullptr ? "" : "written " + describe_address(written);
}

std::string describe_address(const void* address) {
  const Allocation* a = find_allocation(address);
  if (a == nullptr) {
    char text[64];
    std::snprintf(text, sizeof text, "%p, outside device memory", address);
    return text;
  }
  const std::string allocation = std::string(a->live ? "device" : "freed device") + " allocation " +
                                 std::to_string(a->number) + " (" + std::to_string(a->bytes) +
                                 " bytes)";
  const auto after = blocks.upper_bound(reinterpret_cast<uintptr_t>(address));
  if (after != blocks.begin()) {
    const Block& b = std::prev(after)->second;
    if (b.bytes == 0 && static_cast<const char*>(address) < b.address + b.capacity) {
      return describe_offset(address, b.address, b.capacity) + " a block that was given back, in " +
             allocation;
    }
    if (static_cast<const char*>(address) < b.address + b.capacity) {
      return describe_offset(address, b.address, b.bytes) + " a block of " +
             std::to_string(b.bytes) + " bytes in " + allocation;
    }
  }
  return describe_offset(address, a->address, a->bytes) + " " + allocation;
}

DeviceAccess::DeviceAccess(bool allowed) : before_(accessible) {
  if (allowed != accessible) set_access(allowed);
}

DeviceAccess::~DeviceAccess() {
  if (before_ != accessible) set_access(before_);
}

}  // namespace stillpoint::emulation
