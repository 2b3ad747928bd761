// The device's queues. Work put on a stream runs when something waits for it, and no sooner than
// that; what may run is drawn at random among what the dependencies allow.
#pragma once

#include <chrono>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "kernels/emulation/emulation.h"

namespace stillpoint::emulation {

struct Operation {
  std::function<void()> run{};
  std::vector<std::shared_ptr<Operation>> after{};  // of other streams: must be done before
  CUstream_st* stream = nullptr;
  bool on_host = false;  // runs without access to device memory
  bool running = false, done = false;
  const void* host = nullptr;  // the host memory that a copy reads or writes
  size_t host_bytes = 0;
  uint64_t mark = 0;     // advance()'s: needed for what is waited for
  uint64_t capture = 0;  // part of that capture, as its node number `node`; never runs itself
  size_t node = 0;
  std::chrono::steady_clock::time_point finished{};
};
using OperationPtr = std::shared_ptr<Operation>;

}  // namespace stillpoint::emulation

struct CUstream_st {
  bool blocking = true;  // ordered with the legacy default stream
  bool destroyed = false;
  std::deque<stillpoint::emulation::OperationPtr> queue;
  stillpoint::emulation::OperationPtr last;
  CUgraph_st* capture = nullptr;  // what is put on the stream becomes part of this graph
};

struct CUevent_st {
  stillpoint::emulation::OperationPtr record;  // the latest; nullptr: never recorded
  bool timing = true;
};

namespace stillpoint::emulation {

CUstream_st* create_stream(bool blocking);
void destroy_stream(CUstream_st* stream);
// nullptr stands for the legacy default stream; the result is nullptr if there is no such stream.
CUstream_st* find_stream(cudaStream_t handle);
// The stream that a call puts work on, or the error: there is none, or it is the default stream,
// which would have to wait for a blocking stream that captures; that ends the capture.
cudaError_t use_stream(const char* call, cudaStream_t handle, CUstream_st** stream);

// Adds an operation to the graph that the stream captures.
OperationPtr capture(CUstream_st* stream, Operation operation);
// Waiting for a captured event makes the stream part of its capture, if that goes on; the error
// otherwise.
cudaError_t join_capture(const char* call, CUstream_st* stream, const Operation& record);
// Refuses a call that would wait or touch memory, and thereby ends the capture: of the stream, or
// of any stream if none is given.
cudaError_t refuse_in_capture(const char* call, const CUstream_st* stream);
cudaError_t refuse_implicit(const char* call);  // because of the streams that are blocking
void drop_captures();
const std::vector<std::unique_ptr<CUstream_st>>& all_streams();

OperationPtr submit(CUstream_st* stream, Operation operation);
// Whether work that has not run yet may read or write this host memory: copies say what they
// touch, host functions may touch anything.
bool host_memory_in_use(const void* begin, size_t bytes);
// Runs work until `goal` is done or the device has failed, which it has when nothing can run.
void advance(const OperationPtr& goal);
void advance_all();
void advance_a_little(const OperationPtr& goal);  // what a query may find done
void drop_pending();

// The error that ended all work, until reset().
cudaError_t failure();
// Keeps an error of one call, which cudaGetLastError() gives and clears.
cudaError_t error(cudaError_t code, std::string message);
void forget_errors();

std::recursive_mutex& api_mutex();

}  // namespace stillpoint::emulation

// How every function of the API begins: one thread at a time, and nothing after a failure.
#define STILLPOINT_API                                                                    \
  const std::lock_guard api_lock(stillpoint::emulation::api_mutex());                     \
  if (const cudaError_t failed = stillpoint::emulation::failure(); failed != cudaSuccess) \
  return failed

// Declares `stream`, where the call puts its work.
#define STILLPOINT_USE_STREAM(call, handle)                                                  \
  CUstream_st* stream = nullptr;                                                             \
  if (const cudaError_t unusable = stillpoint::emulation::use_stream(call, handle, &stream); \
      unusable != cudaSuccess)                                                               \
  return unusable

#define STILLPOINT_REFUSE_IN_CAPTURE(call, stream)                                        \
  if (const cudaError_t refused = stillpoint::emulation::refuse_in_capture(call, stream); \
      refused != cudaSuccess)                                                             \
  return refused
