// Device memory: one region of address space that host code cannot read or write.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace stillpoint::emulation {

struct Allocation {
  char* address = nullptr;
  size_t bytes = 0;
  uint64_t number = 0;  // counts cudaMalloc calls
  bool live = true;
  bool open = false;  // to work on the device, since it touched it
};

// nullptr: no memory left. Filled with NaN, red zones before and after, aligned to 256 bytes and no
// better. Addresses are never used twice.
void* allocate_device(size_t bytes);
bool free_device(void* address);  // false: no live allocation starts there

// A part of an allocation that its owner hands out: only `bytes` of `capacity` are in bounds, and
// none once it has been given back. Each first looks at what has been out of bounds so far, and
// returns what check_red_zones() would.
std::string open_block(void* address, size_t bytes, size_t capacity);
std::string close_block(void* address, size_t capacity);

bool in_device_heap(const void* address);
ptrdiff_t device_offset(const void* address);  // from the heap's start
const Allocation* find_allocation(
    const void* address);  // the one it lies in or next to, or nullptr
bool inside_one_allocation(const void* address, size_t bytes);

size_t device_bytes_in_use();
size_t device_bytes_limit();
inline constexpr size_t kDeviceBytes = size_t{1} << 33;

// Lets work on the device touch the allocation that the address lies in. False: there is none, it
// is open already, or no such work runs. Opening what is needed when it is needed keeps the cost of
// closing it again in proportion to the work.
bool open_allocation(const void* address);
void open_arguments(const void* arguments, size_t bytes);  // of those that pointers among them name

// Empty, or which allocation's red zone was written: of all open ones (a closed one cannot have
// been), or of those that pointers among `arguments` name.
std::string check_red_zones();
std::string check_red_zones(const void* arguments, size_t bytes);

// "8 bytes past the end of device allocation 3 (64 bytes)"
std::string describe_address(const void* address);

// Device memory can be touched while work on the device runs, and at no other time: as long as the
// object lives, then it goes back to what it was.
class DeviceAccess {
 public:
  explicit DeviceAccess(bool allowed);
  ~DeviceAccess();
  DeviceAccess(const DeviceAccess&) = delete;
  DeviceAccess& operator=(const DeviceAccess&) = delete;

 private:
  bool before_;
};

}  // namespace stillpoint::emulation
