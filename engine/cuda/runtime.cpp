#include "engine/cuda/runtime.h"

#include <cublas_v2.h>
#include <cuda_runtime.h>
#include <cusparse.h>

#include "engine/device.h"
#include "engine/error.h"
#include "kernels/elementwise/elementwise.h"

#if defined(STILLPOINT_CUDA_EMULATED)
#include "kernels/emulation/emulation.h"
#endif

namespace stillpoint {

#define STILLPOINT_CUDA_CHECK(expression)                            \
  do {                                                               \
    const cudaError_t stillpoint_error = (expression);               \
    if (stillpoint_error != cudaSuccess)                             \
      cuda::fail(stillpoint_error, #expression, __FILE__, __LINE__); \
  } while (false)

namespace cuda {
namespace {

// What the emulation found, in words a real driver does not have.
std::string detail() {
#if defined(STILLPOINT_CUDA_EMULATED)
  const std::string message = emulation::last_error_message();
  return message.empty() ? "" : " (" + message + ")";
#else
  return "";
#endif
}

// What was reported is over: left in place, it would be taken for a failure of the next launch.
[[noreturn]] void fail_with(const std::string& message) {
  (void)cudaGetLastError();
  throw DeviceError(message);
}

[[noreturn]] void fail(cudaError_t error, const char* expression, const char* file, int line) {
  cudaDeviceProp properties{};
  const bool known = cudaGetDeviceProperties(&properties, 0) == cudaSuccess;
  fail_with(fmt::format("{}:{}: {} on device 0 ({}) returned {}: {}{}", file, line, expression,
                        known ? properties.name : "unknown", cudaGetErrorName(error),
                        cudaGetErrorString(error), detail()));
}

// Called before any wait. A wait inside a capture spoils it, and of a spoilt one the driver cannot
// even drop what was captured: 580.159 ends the process there.
void refuse_capture() {
  check<DeviceError>(!capturing(),
                     "what is captured into a graph may not wait (cudaStreamSynchronize)");
}

void wait() { STILLPOINT_CUDA_CHECK(cudaStreamSynchronize(stream())); }

}  // namespace

bool device_available() {
  static const bool found = [] {
    int count = 0;
    const bool ok = cudaGetDeviceCount(&count) == cudaSuccess && count > 0;
    if (!ok) (void)cudaGetLastError();
    return ok;
  }();
  return found;
}

std::string device_name() {
  if (!device_available()) return "none";
  cudaDeviceProp properties{};
  STILLPOINT_CUDA_CHECK(cudaGetDeviceProperties(&properties, 0));
  return fmt::format("{}, compute {}.{}", properties.name, properties.major, properties.minor);
}

kernels::Stream stream() {
  static const kernels::Stream engine_stream = [] {
    cudaStream_t s = nullptr;
    STILLPOINT_CUDA_CHECK(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking));
    return s;
  }();
  return engine_stream;
}

cublasContext* cublas_handle() {
  static cublasContext* const handle = [] {
    // What cuBLAS recommends for Hopper, the largest of its recommendations. It is part of the
    // library's own footprint and lives as long, so it comes from the driver, not the arena.
    constexpr int64_t kWorkspace = int64_t{32} << 20;
    const auto checked = [](cublasStatus_t status, const char* call) {
      check_status({static_cast<int>(status), kernels::Status::Source::cublas, call}, "cuda");
    };
    cublasContext* h = nullptr;
    checked(cublasCreate(&h), "cublasCreate");
    checked(cublasSetStream(h, stream()), "cublasSetStream");
    checked(cublasSetWorkspace(h, allocate(kWorkspace), kWorkspace), "cublasSetWorkspace");
    return h;
  }();
  return handle;
}

cusparseContext* cusparse_handle() {
  static cusparseContext* const handle = [] {
    cusparseContext* made = nullptr;
    check_status({.code = static_cast<int>(cusparseCreate(&made)),
                  .source = kernels::Status::Source::cusparse,
                  .call = "cusparseCreate"},
                 "cuda");
    return made;
  }();
  return handle;
}

void synchronize() {
  refuse_capture();
  wait();
}

bool capturing() {
  cudaStreamCaptureStatus status{};
  STILLPOINT_CUDA_CHECK(cudaStreamIsCapturing(stream(), &status));
  return status != cudaStreamCaptureStatusNone;
}

void* allocate(int64_t bytes) {
  void* p = nullptr;
  STILLPOINT_CUDA_CHECK(cudaMalloc(&p, static_cast<size_t>(bytes)));
  return p;
}

void free(void* p) { STILLPOINT_CUDA_CHECK(cudaFree(p)); }

void take_block([[maybe_unused]] void* p, [[maybe_unused]] int64_t bytes,
                [[maybe_unused]] int64_t capacity) {
#if defined(STILLPOINT_CUDA_EMULATED)
  STILLPOINT_CUDA_CHECK(emulation::take_block(stream(), p, static_cast<size_t>(bytes),
                                              static_cast<size_t>(capacity)));
#endif
}

void return_block([[maybe_unused]] void* p, [[maybe_unused]] int64_t capacity) noexcept {
#if defined(STILLPOINT_CUDA_EMULATED)
  // After a failure nothing runs any more, and whoever synchronises next is told of it.
  (void)emulation::return_block(stream(), p, static_cast<size_t>(capacity));
#endif
}

void copy_to_device(void* device, const void* host, int64_t bytes) {
  if (bytes == 0) return;
  refuse_capture();
  STILLPOINT_CUDA_CHECK(
      cudaMemcpyAsync(device, host, static_cast<size_t>(bytes), cudaMemcpyHostToDevice, stream()));
  wait();
}

void copy_to_host(void* host, const void* device, int64_t bytes) {
  if (bytes == 0) return;
  refuse_capture();
  STILLPOINT_CUDA_CHECK(
      cudaMemcpyAsync(host, device, static_cast<size_t>(bytes), cudaMemcpyDeviceToHost, stream()));
  wait();
}

void copy_on_device(void* to, const void* from, int64_t bytes) {
  if (bytes == 0) return;
  STILLPOINT_CUDA_CHECK(
      cudaMemcpyAsync(to, from, static_cast<size_t>(bytes), cudaMemcpyDeviceToDevice, stream()));
}

void fill_words(void* device, uint32_t value, int64_t count) {
  check_status(kernels::cuda::fill(static_cast<uint32_t*>(device), value, count, stream()), "fill");
}

void check_status(const kernels::Status& status, const char* op) {
  if (status.ok()) return;
  using Source = kernels::Status::Source;
  if (status.source == Source::cuda) {
    const auto error = static_cast<cudaError_t>(status.code);
    fail_with(fmt::format("{}: {} failed with {}: {}{}", op, status.call, cudaGetErrorName(error),
                          cudaGetErrorString(error), detail()));
  }
  if (status.source == Source::cublas)
    fail_with(fmt::format("{}: {} failed with {}{}", op, status.call,
                          cublasGetStatusName(static_cast<cublasStatus_t>(status.code)), detail()));
  fail_with(fmt::format("{}: {} failed with {}{}", op, status.call,
                        cusparseGetErrorName(static_cast<cusparseStatus_t>(status.code)),
                        detail()));
}

}  // namespace cuda
}  // namespace stillpoint
