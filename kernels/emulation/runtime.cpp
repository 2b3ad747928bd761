// The CUDA runtime API over the emulated device: memory, kernels, properties. streams.cpp has
// streams, events and copies, graph.cpp graphs, errors.cpp errors.
#include <cuda_runtime.h>

#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <utility>

#include "kernels/emulation/block.h"
#include "kernels/emulation/device.h"
#include "kernels/emulation/heap.h"

namespace stillpoint::emulation {
namespace {

uint64_t seed_from_environment() {
  const char* text = std::getenv("STILLPOINT_EMULATION_SEED");
  return text != nullptr ? std::strtoull(text, nullptr, 10) : 1;
}
[[maybe_unused]] const bool seeded = (set_seed(seed_from_environment()), true);

std::map<const void*, size_t>& dynamic_shared_limits() {
  static auto& limits = *new std::map<const void*, size_t>;
  return limits;
}

std::string launch_problem(const Launch& launch) {
  const dim3 &g = launch.grid, &b = launch.block;
  const uint64_t threads = uint64_t{b.x} * b.y * b.z;
  const auto text = [](const char* what, const dim3& d) {
    return std::string(what) + " (" + std::to_string(d.x) + "," + std::to_string(d.y) + "," +
           std::to_string(d.z) + ")";
  };
  if (threads == 0 || threads > kMaxThreads || b.z > 64) return text("block", b);
  if (g.x == 0 || g.y == 0 || g.z == 0 || g.x > 2147483647u || g.y > 65535 || g.z > 65535) {
    return text("grid", g);
  }
  const auto found = dynamic_shared_limits().find(launch.kernel);
  const size_t limit = found == dynamic_shared_limits().end() ? kSharedBytesUnasked : found->second;
  if (launch.shared_bytes > limit) {
    return std::to_string(launch.shared_bytes) + " bytes of shared memory, allowed are " +
           std::to_string(limit);
  }
  return "";
}

void report_overrun(const std::string& where, const std::string& overrun) {
  if (overrun.empty()) return;
  report_failure(cudaErrorIllegalAddress, "device memory out of bounds" + where + ": " + overrun);
}

// The kernel at fault is known if it wrote past an array that it was given; advance() looks at all.
void run_kernel(const Launch& launch) {
  open_arguments(launch.invocation.get(), launch.invocation_bytes);
  if (!run_grid(launch)) return;
  const std::string overrun = check_red_zones(launch.invocation.get(), launch.invocation_bytes);
  if (!overrun.empty()) report_overrun(" in kernel " + function_name(launch.kernel), overrun);
}

cudaError_t submit_block(const char* call, cudaStream_t handle, const void* address,
                         size_t capacity, std::function<void()> work) {
  STILLPOINT_API;
  STILLPOINT_USE_STREAM(call, handle);
  if (!inside_one_allocation(address, capacity)) {
    return error(cudaErrorInvalidValue, std::string(call) + ": no such block");
  }
  submit(stream, {.run = std::move(work)});
  return cudaSuccess;
}

}  // namespace

const Counters& counters() { return counts; }

void reset() {
  const std::lock_guard lock(api_mutex());
  drop_captures();
  drop_pending();
  forget_errors();
  counts = {};
  set_memory_limit(kDeviceBytes);
  set_random_order(true);
  set_seed(seed_from_environment());
}

cudaError_t enqueue_kernel(Launch launch, cudaStream_t handle) {
  STILLPOINT_API;
  STILLPOINT_USE_STREAM("kernel launch", handle);
  if (const std::string problem = launch_problem(launch); !problem.empty()) {
    return error(cudaErrorInvalidConfiguration,
                 "launch of kernel " + function_name(launch.kernel) + ": " + problem);
  }
  if (const auto asked = dynamic_shared_limits().find(launch.kernel);
      asked != dynamic_shared_limits().end()) {
    launch.shared_asked = asked->second;
  }
  submit(stream, {.run = [launch = std::move(launch)] { run_kernel(launch); }});
  return cudaSuccess;
}

cudaError_t take_block(cudaStream_t handle, void* address, size_t bytes, size_t capacity) {
  return submit_block("take_block", handle, address, capacity, [=] {
    report_overrun(" before it is taken", open_block(address, bytes, capacity));
  });
}

cudaError_t return_block(cudaStream_t handle, void* address, size_t capacity) {
  return submit_block("return_block", handle, address, capacity, [=] {
    report_overrun(" before it is given back", close_block(address, capacity));
  });
}

cudaError_t enqueue(cudaStream_t handle, const char* name, std::function<void()> work) {
  STILLPOINT_API;
  STILLPOINT_USE_STREAM(name, handle);
  submit(stream, {.run = [name, work = std::move(work)] {
           ++counts.library_calls;
           work();
           report_overrun(std::string(" in ") + name, check_red_zones());
         }});
  return cudaSuccess;
}

}  // namespace stillpoint::emulation

using namespace stillpoint::emulation;

extern "C" {

cudaError_t cudaMalloc(void** pointer, size_t bytes) {
  STILLPOINT_API;
  STILLPOINT_REFUSE_IN_CAPTURE("cudaMalloc", nullptr);
  if (pointer == nullptr) return error(cudaErrorInvalidValue, "cudaMalloc: null pointer");
  *pointer = nullptr;
  if (bytes == 0) return cudaSuccess;
  *pointer = allocate_device(bytes);
  if (*pointer != nullptr) return cudaSuccess;
  return error(cudaErrorMemoryAllocation,
               "cudaMalloc: " + std::to_string(bytes) + " bytes wanted, " +
                   std::to_string(device_bytes_limit() - device_bytes_in_use()) + " free");
}

cudaError_t cudaFree(void* pointer) {
  const std::lock_guard lock(api_mutex());
  if (pointer == nullptr) return failure();
  STILLPOINT_REFUSE_IN_CAPTURE("cudaFree", nullptr);
  if (failure() == cudaSuccess) advance_all();  // cudaFree waits for the device
  if (free_device(pointer)) return failure();
  return error(cudaErrorInvalidValue, "cudaFree: " + describe_address(pointer));
}

static std::set<void*>& pinned() {
  static auto& blocks = *new std::set<void*>;
  return blocks;
}

cudaError_t cudaMallocHost(void** pointer, size_t bytes) {
  STILLPOINT_API;
  *pointer = std::malloc(bytes > 0 ? bytes : 1);
  if (*pointer == nullptr) return error(cudaErrorMemoryAllocation, "cudaMallocHost: no memory");
  std::memset(*pointer, 0xff, bytes);
  pinned().insert(*pointer);
  return cudaSuccess;
}

cudaError_t cudaFreeHost(void* pointer) {
  const std::lock_guard lock(api_mutex());
  if (pointer == nullptr) return failure();
  if (failure() == cudaSuccess) advance_all();
  if (pinned().erase(pointer) == 0) {
    return error(cudaErrorInvalidValue, "cudaFreeHost: not from cudaMallocHost");
  }
  std::free(pointer);
  return failure();
}

cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total) {
  STILLPOINT_API;
  *free_bytes = device_bytes_limit() - device_bytes_in_use();
  *total = device_bytes_limit();
  return cudaSuccess;
}

cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute attribute, int value) {
  STILLPOINT_API;
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) return cudaSuccess;
  if (value < 0 || static_cast<size_t>(value) > kMaxSharedBytes) {
    return error(cudaErrorInvalidValue, "cudaFuncSetAttribute: " + std::to_string(value) +
                                            " bytes of shared memory, the limit is " +
                                            std::to_string(kMaxSharedBytes));
  }
  dynamic_shared_limits()[kernel] = static_cast<size_t>(value);
  return cudaSuccess;
}

cudaError_t cudaFuncGetName(const char** name, const void* kernel) {
  static auto& names = *new std::map<const void*, std::string>;
  const std::lock_guard lock(api_mutex());
  *name = (names[kernel] = function_name(kernel)).c_str();
  return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}

cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
  STILLPOINT_API;
  if (device == 0) return cudaSuccess;
  return error(cudaErrorInvalidDevice, "cudaSetDevice: " + std::to_string(device));
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  STILLPOINT_API;
  if (device != 0) return error(cudaErrorInvalidDevice, "cudaGetDeviceProperties: no such device");
  *properties = {};
  std::strcpy(properties->name, "stillpoint emulation");
#define STILLPOINT_CUDA_PROPERTY(type, field, answer) properties->field = answer;
#include "kernels/emulation/cuda_api.inc"
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  STILLPOINT_API;
  if (device != 0) return error(cudaErrorInvalidDevice, "cudaDeviceGetAttribute: no such device");
  switch (attribute) {
#define STILLPOINT_CUDA_ATTRIBUTE(name, number, answer) \
  case name:                                            \
    *value = answer;                                    \
    return cudaSuccess;
#include "kernels/emulation/cuda_api.inc"
  }
  return error(cudaErrorInvalidValue, "cudaDeviceGetAttribute: unknown attribute");
}

cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = 13000;
  return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int* version) {
  *version = 0;  // what the toolkit answers where no driver is installed
  return cudaSuccess;
}

}  // extern "C"
