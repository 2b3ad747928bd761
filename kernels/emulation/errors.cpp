// What went wrong: the failure that ends all work on the device, and the last error of a call.
#include <cuda_runtime.h>

#include <mutex>
#include <string>
#include <utility>

#include "kernels/emulation/block.h"
#include "kernels/emulation/device.h"

namespace stillpoint::emulation {
namespace {

struct Errors {
  cudaError_t failed = cudaSuccess;  // ends all work until reset()
  cudaError_t last = cudaSuccess;    // of one call
  std::string first_message, last_message;
};
auto& errors = *new Errors;

void note(std::string message) {
  if (errors.first_message.empty()) errors.first_message = message;
  errors.last_message = std::move(message);
}

}  // namespace

const std::string& last_error_message() { return errors.first_message; }

cudaError_t failure() { return errors.failed; }

void report_failure(cudaError_t code, std::string message) {
  if (errors.failed != cudaSuccess) return;
  errors.failed = code;
  note(std::move(message));
}

cudaError_t error(cudaError_t code, std::string message) {
  note(std::move(message));
  return errors.last = code;
}

void forget_errors() { errors = {}; }

}  // namespace stillpoint::emulation

using namespace stillpoint::emulation;

extern "C" {

cudaError_t cudaGetLastError() {
  STILLPOINT_API;
  return std::exchange(errors.last, cudaSuccess);
}

cudaError_t cudaPeekAtLastError() {
  STILLPOINT_API;
  return errors.last;
}

const char* cudaGetErrorName(cudaError_t code) {
  switch (code) {
#define STILLPOINT_CUDA_ERROR(name, value) \
  case name:                               \
    return #name;
#include "kernels/emulation/cuda_api.inc"
  }
  return "unrecognized error code";
}

const char* cudaGetErrorString(cudaError_t code) {
  const std::lock_guard lock(api_mutex());
  const bool known = code != cudaSuccess && (code == errors.failed || code == errors.last);
  return known ? errors.last_message.c_str() : cudaGetErrorName(code);
}

}  // extern "C"
