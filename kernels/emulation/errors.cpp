// What went wrong: the failure that ends all work on the device, and the last error of a call.
#include <cuda_runtime.h>

#include <mutex>
#include <string>
#include <utility>

#include "kernels/emulation/block.h"
#include "kernels/emulation/device.h"

namespace stillpoint::emulation {
namespace {

struct Error {
  cudaError_t code = cudaSuccess;
  std::string message;
};
struct Errors {
  Error failed;                     // ends all work until reset()
  Error last;                       // of one call; kept for its message
  cudaError_t fresh = cudaSuccess;  // its code, until cudaGetLastError() has given it
  std::string first_message;
};
auto& errors = *new Errors;

void note(Error& place, cudaError_t code, std::string message) {
  if (errors.first_message.empty()) errors.first_message = message;
  place = {code, std::move(message)};
}

}  // namespace

const std::string& last_error_message() { return errors.first_message; }

cudaError_t failure() { return errors.failed.code; }

void report_failure(cudaError_t code, std::string message) {
  if (errors.failed.code == cudaSuccess) note(errors.failed, code, std::move(message));
}

cudaError_t error(cudaError_t code, std::string message) {
  note(errors.last, code, std::move(message));
  return errors.fresh = code;
}

void forget_errors() { errors = {}; }

}  // namespace stillpoint::emulation

using namespace stillpoint::emulation;

extern "C" {

cudaError_t cudaGetLastError() {
  STILLPOINT_API;
  return std::exchange(errors.fresh, cudaSuccess);
}

cudaError_t cudaPeekAtLastError() {
  STILLPOINT_API;
  return errors.fresh;
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
  for (const Error* known : {&errors.failed, &errors.last}) {
    if (code != cudaSuccess && code == known->code) return known->message.c_str();
  }
  return cudaGetErrorName(code);
}

}  // extern "C"
