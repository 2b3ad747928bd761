// The CUDA runtime API over the emulated device: streams, events, copies.
#include <cuda_runtime.h>

#include <cstring>
#include <memory>
#include <mutex>
#include <set>

#include "kernels/emulation/block.h"
#include "kernels/emulation/device.h"
#include "kernels/emulation/heap.h"
#include "kernels/emulation/race.h"

namespace stillpoint::emulation {
namespace {

std::set<CUevent_st*>& events() {
  static auto& all = *new std::set<CUevent_st*>;
  return all;
}

cudaError_t no_event(const char* call) {
  return error(cudaErrorInvalidResourceHandle, std::string(call) + ": no such event");
}

bool captured(const CUevent_st* event) {
  return event->record != nullptr && event->record->capture != 0;
}

uint64_t checksum(const void* data, size_t bytes) {
  uint64_t hash = 1469598103934665603ull, word = 0;
  const auto* p = static_cast<const char*>(data);
  for (; bytes >= 8; bytes -= 8, p += 8) {
    std::memcpy(&word, p, 8);
    hash = (hash ^ word) * 0x9E3779B97F4A7C15ull;
    hash ^= hash >> 29;
  }
  for (; bytes > 0; --bytes, ++p) hash = (hash ^ static_cast<unsigned char>(*p)) * 1099511628211ull;
  return hash;
}

// For the race check: what a kernel may not touch, a copy may not.
bool may_copy(const char* call, const void* to, const void* from, size_t bytes) {
  const std::string wrong = race_copy(to, from, bytes);
  if (wrong.empty()) return true;
  report_failure(cudaErrorIllegalAddress, std::string("device memory out of bounds: ") + call +
                                              " of " + std::to_string(bytes) + " bytes " + wrong);
  return false;
}

// Puts a copy on the stream. Where the host must wait for it anyway, its ends need no watching.
cudaError_t submit_copy(const char* call, void* to, const void* from, size_t bytes,
                        cudaMemcpyKind kind, cudaStream_t handle, bool host_waits,
                        OperationPtr* submitted) {
  STILLPOINT_USE_STREAM(call, handle);
  if (bytes == 0) return cudaSuccess;
  const bool to_device = in_device_heap(to), from_device = in_device_heap(from);
  const bool kind_fits =
      kind == cudaMemcpyDefault ||
      (to_device == (kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice) &&
       from_device == (kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice));
  if (!kind_fits || to == nullptr || from == nullptr) {
    return error(cudaErrorInvalidValue,
                 std::string(call) + ": the pointers do not fit the direction");
  }
  if (to_device && !inside_one_allocation(to, bytes)) {
    return error(cudaErrorInvalidValue, std::string(call) + ": " + std::to_string(bytes) +
                                            " bytes written " + describe_address(to));
  }
  if (from_device && !inside_one_allocation(from, bytes)) {
    return error(cudaErrorInvalidValue, std::string(call) + ": " + std::to_string(bytes) +
                                            " bytes read " + describe_address(from));
  }
  // A captured copy runs later and often: what the host holds now means nothing for it.
  // And where work that has not run yet may touch the host's end, its order decides.
  const void* host = to_device ? from : to;
  const bool watch = !host_waits && stream->capture == nullptr && !host_memory_in_use(host, bytes);
  const bool watch_source = !from_device && watch;
  const uint64_t sum = watch_source ? checksum(from, bytes) : 0;
  if (!to_device && watch) std::memset(to, 0xff, bytes);  // whoever reads too early sees NaN
  OperationPtr operation = submit(
      stream, {.run =
                   [=] {
                     ++counts.copies;
                     if (watch_source && checksum(from, bytes) != sum) {
                       report_failure(cudaErrorUnknown,
                                      std::string("source reused too early: ") + call + " of " +
                                          std::to_string(bytes) +
                                          " bytes from the host had not run when they changed");
                     }
                     open_allocation(to);
                     open_allocation(from);
                     if (may_copy(call, to, from, bytes)) std::memmove(to, from, bytes);
                   },
               .on_host = !to_device && !from_device,
               .host = to_device && from_device ? nullptr : host,
               .host_bytes = bytes});
  if (submitted != nullptr) *submitted = std::move(operation);
  return cudaSuccess;
}

cudaError_t submit_fill(void* to, int value, size_t bytes, cudaStream_t handle,
                        OperationPtr* submitted) {
  STILLPOINT_USE_STREAM("cudaMemset", handle);
  if (bytes == 0) return cudaSuccess;
  if (!inside_one_allocation(to, bytes)) {
    return error(cudaErrorInvalidValue,
                 "cudaMemset: " + std::to_string(bytes) + " bytes written " + describe_address(to));
  }
  OperationPtr operation = submit(stream, {.run = [=] {
                                    ++counts.copies;
                                    if (!may_copy("cudaMemset", to, nullptr, bytes)) return;
                                    std::memset(to, value, bytes);
                                  }});
  if (submitted != nullptr) *submitted = std::move(operation);
  return cudaSuccess;
}

}  // namespace
}  // namespace stillpoint::emulation

using namespace stillpoint::emulation;

extern "C" {

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  STILLPOINT_API;
  return submit_copy("cudaMemcpyAsync", to, from, bytes, kind, stream, false, nullptr);
}

cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  STILLPOINT_API;
  STILLPOINT_USE_STREAM("cudaMemcpy", nullptr);
  STILLPOINT_REFUSE_IN_CAPTURE("cudaMemcpy", nullptr);
  OperationPtr operation;
  const cudaError_t code =
      submit_copy("cudaMemcpy", to, from, bytes, kind, stream, true, &operation);
  if (code != cudaSuccess) return code;
  advance(operation);
  return failure();
}

cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t stream) {
  STILLPOINT_API;
  return submit_fill(to, value, bytes, stream, nullptr);
}

cudaError_t cudaMemset(void* to, int value, size_t bytes) {
  STILLPOINT_API;
  STILLPOINT_USE_STREAM("cudaMemset", nullptr);
  STILLPOINT_REFUSE_IN_CAPTURE("cudaMemset", nullptr);
  return submit_fill(to, value, bytes, stream, nullptr);  // on device memory it does not wait
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  STILLPOINT_API;
  *stream = create_stream(flags != cudaStreamNonBlocking);
  return cudaSuccess;
}

cudaError_t cudaStreamCreate(cudaStream_t* stream) {
  return cudaStreamCreateWithFlags(stream, cudaStreamDefault);
}

cudaError_t cudaStreamDestroy(cudaStream_t handle) {
  const std::lock_guard lock(api_mutex());
  if (handle == nullptr || find_stream(handle) == nullptr) {
    return error(cudaErrorInvalidResourceHandle, "cudaStreamDestroy: no such stream");
  }
  destroy_stream(handle);  // what is queued still runs
  return failure();
}

cudaError_t cudaStreamSynchronize(cudaStream_t handle) {
  STILLPOINT_API;
  STILLPOINT_USE_STREAM("cudaStreamSynchronize", handle);
  STILLPOINT_REFUSE_IN_CAPTURE("cudaStreamSynchronize", stream);
  advance(submit(stream, {}));  // on the legacy default stream this awaits the others too
  return failure();
}

cudaError_t cudaStreamQuery(cudaStream_t handle) {
  STILLPOINT_API;
  STILLPOINT_USE_STREAM("cudaStreamQuery", handle);
  STILLPOINT_REFUSE_IN_CAPTURE("cudaStreamQuery", stream);
  if (stream->last == nullptr || stream->last->done) return cudaSuccess;
  advance_a_little(stream->last);
  if (failure() != cudaSuccess) return failure();
  return stream->last->done ? cudaSuccess : cudaErrorNotReady;
}

cudaError_t cudaDeviceSynchronize() {
  STILLPOINT_API;
  STILLPOINT_REFUSE_IN_CAPTURE("cudaDeviceSynchronize", nullptr);
  advance_all();
  return failure();
}

cudaError_t cudaLaunchHostFunc(cudaStream_t handle, cudaHostFn_t function, void* data) {
  STILLPOINT_API;
  STILLPOINT_USE_STREAM("cudaLaunchHostFunc", handle);
  submit(stream, {.run = [=] { function(data); }, .on_host = true});
  return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  STILLPOINT_API;
  *event = new CUevent_st{nullptr, (flags & cudaEventDisableTiming) == 0};
  events().insert(*event);
  return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t* event) {
  return cudaEventCreateWithFlags(event, cudaEventDefault);
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  const std::lock_guard lock(api_mutex());
  if (events().erase(event) == 0) return no_event("cudaEventDestroy");
  delete event;
  return failure();
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t handle) {
  STILLPOINT_API;
  STILLPOINT_USE_STREAM("cudaEventRecord", handle);
  if (!events().contains(event)) return no_event("cudaEventRecord");
  event->record = submit(stream, {});
  return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t handle, cudaEvent_t event, unsigned) {
  STILLPOINT_API;
  STILLPOINT_USE_STREAM("cudaStreamWaitEvent", handle);
  if (!events().contains(event)) return no_event("cudaStreamWaitEvent");
  if (event->record == nullptr || event->record->done) return cudaSuccess;
  const cudaError_t code = join_capture("cudaStreamWaitEvent", stream, *event->record);
  if (code != cudaSuccess) return code;
  submit(stream, {.after = {event->record}});
  return cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
  STILLPOINT_API;
  if (!events().contains(event)) return no_event("cudaEventQuery");
  if (captured(event)) return error(cudaErrorCapturedEvent, "cudaEventQuery: a captured event");
  advance_a_little(event->record);
  if (failure() != cudaSuccess) return failure();
  return event->record == nullptr || event->record->done ? cudaSuccess : cudaErrorNotReady;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  STILLPOINT_API;
  if (!events().contains(event)) return no_event("cudaEventSynchronize");
  if (captured(event)) {
    return error(cudaErrorCapturedEvent, "cudaEventSynchronize: a captured event");
  }
  advance(event->record);
  return failure();
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t begin, cudaEvent_t end) {
  STILLPOINT_API;
  if (!events().contains(begin) || !events().contains(end)) return no_event("cudaEventElapsedTime");
  if (!begin->timing || !end->timing || begin->record == nullptr || end->record == nullptr) {
    return error(cudaErrorInvalidResourceHandle,
                 "cudaEventElapsedTime: an event is not recorded or keeps no time");
  }
  if (captured(begin) || captured(end)) {
    return error(cudaErrorCapturedEvent, "cudaEventElapsedTime: a captured event");
  }
  if (!begin->record->done || !end->record->done) return cudaErrorNotReady;
  *milliseconds =
      std::chrono::duration<float, std::milli>(end->record->finished - begin->record->finished)
          .count();
  return cudaSuccess;
}

}  // extern "C"
