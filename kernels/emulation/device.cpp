#include "kernels/emulation/device.h"

#include <algorithm>
#include <memory>

#include "kernels/emulation/block.h"
#include "kernels/emulation/fault.h"
#include "kernels/emulation/heap.h"

namespace stillpoint::emulation {
namespace {

auto& streams =
    *new std::vector<std::unique_ptr<CUstream_st>>;  // the first is the legacy default stream
uint64_t marks = 0;

bool runnable(const CUstream_st& stream) {
  return !stream.queue.empty() && !stream.queue.front()->running &&
         std::all_of(stream.queue.front()->after.begin(), stream.queue.front()->after.end(),
                     [](const OperationPtr& o) { return o->done; });
}

// Marks what has to run before `goal` can: the work before it on its stream, and what that awaits.
void mark_needed(const OperationPtr& goal, uint64_t mark) {
  std::vector<OperationPtr> open{goal};
  while (!open.empty()) {
    const OperationPtr operation = open.back();
    open.pop_back();
    if (operation->done || operation->mark == mark) continue;
    for (const OperationPtr& earlier : operation->stream->queue) {
      if (earlier->mark != mark) {
        earlier->mark = mark;
        open.insert(open.end(), earlier->after.begin(), earlier->after.end());
      }
      if (earlier == operation) break;
    }
  }
}

// After the work: what no kernel's own arguments led to.
void check_all_memory() {
  if (failure() != cudaSuccess) return;
  const std::string overrun = check_red_zones();
  if (overrun.empty()) return;
  report_failure(cudaErrorIllegalAddress,
                 "device memory out of bounds: " + overrun + " since the last synchronisation");
}

void run_head(CUstream_st& stream) {
  const OperationPtr operation = stream.queue.front();
  // A host function closes the device's memory, and what is closed is not looked at any more.
  if (operation->on_host) check_all_memory();
  if (operation->run && failure() == cudaSuccess) {
    const DeviceAccess access(!operation->on_host);
    operation->running = true;
    operation->run();
    operation->running = false;
  }
  operation->done = true;
  operation->finished = std::chrono::steady_clock::now();
  operation->run = nullptr;
  operation->after.clear();
  if (failure() == cudaSuccess) stream.queue.pop_front();
}

// Runs one operation among those that `allowed` admits; false if there is none.
template <class Allowed>
bool step(Allowed allowed) {
  std::vector<CUstream_st*> ready;
  for (const auto& stream : all_streams()) {
    if (runnable(*stream) && allowed(*stream->queue.front())) ready.push_back(stream.get());
  }
  if (ready.empty()) return false;
  run_head(*ready[random_order() ? draw() % ready.size() : 0]);
  return true;
}

void forget_destroyed() {
  std::erase_if(streams, [](const auto& s) { return s->destroyed && s->queue.empty(); });
}

}  // namespace

const std::vector<std::unique_ptr<CUstream_st>>& all_streams() {
  watch_faults();
  if (streams.empty()) streams.push_back(std::make_unique<CUstream_st>());
  return streams;
}

CUstream_st* create_stream(bool blocking) {
  (void)all_streams();
  streams.push_back(std::make_unique<CUstream_st>());
  streams.back()->blocking = blocking;
  return streams.back().get();
}

void destroy_stream(CUstream_st* stream) {
  stream->destroyed = true;
  forget_destroyed();
}

CUstream_st* find_stream(cudaStream_t handle) {
  if (handle == nullptr) return all_streams().front().get();
  for (const auto& stream : streams) {
    if (stream.get() == handle && !stream->destroyed) return handle;
  }
  return nullptr;
}

cudaError_t use_stream(const char* call, cudaStream_t handle, CUstream_st** stream) {
  *stream = find_stream(handle);
  if (*stream == nullptr) {
    return error(cudaErrorInvalidResourceHandle, std::string(call) + ": no such stream");
  }
  return handle == nullptr ? refuse_implicit(call) : cudaSuccess;
}

bool host_memory_in_use(const void* begin, size_t bytes) {
  const auto* p = static_cast<const char*>(begin);
  for (const auto& stream : all_streams()) {
    for (const OperationPtr& operation : stream->queue) {
      const auto* other = static_cast<const char*>(operation->host);
      if (operation->on_host ||
          (other != nullptr && p < other + operation->host_bytes && other < p + bytes)) {
        return true;
      }
    }
  }
  return false;
}

OperationPtr submit(CUstream_st* stream, Operation operation) {
  if (stream->capture != nullptr) return capture(stream, std::move(operation));
  CUstream_st* legacy = all_streams().front().get();
  auto pointer = std::make_shared<Operation>(std::move(operation));
  const auto await = [&](const CUstream_st& other) {
    if (other.last != nullptr && !other.last->done) pointer->after.push_back(other.last);
  };
  if (stream == legacy) {
    for (const auto& other : streams) {
      if (other.get() != legacy && other->blocking) await(*other);
    }
  } else if (stream->blocking) {
    await(*legacy);
  }
  pointer->stream = stream;
  stream->queue.push_back(pointer);
  stream->last = pointer;
  return pointer;
}

void advance(const OperationPtr& goal) {
  if (goal == nullptr || goal->done) return;
  // Half of the time nothing else gets to run: who forgot to wait for it is then sure to notice.
  const bool others_too = random_order() && draw() % 2 == 0;
  const uint64_t mark = ++marks;
  if (!others_too) mark_needed(goal, mark);
  const DeviceAccess access(true);
  while (!goal->done && failure() == cudaSuccess) {
    if (step([&](const Operation& o) { return others_too || o.mark == mark; })) continue;
    report_failure(cudaErrorUnknown, "deadlock: what is waited for can never run");
  }
  check_all_memory();
  forget_destroyed();
}

void advance_all() {
  const DeviceAccess access(true);
  while (failure() == cudaSuccess && step([](const Operation&) { return true; })) {
  }
  const bool stuck = std::any_of(streams.begin(), streams.end(),
                                 [](const auto& stream) { return !stream->queue.empty(); });
  if (stuck && failure() == cudaSuccess) {
    report_failure(cudaErrorUnknown, "deadlock: some of the work can never run");
  }
  check_all_memory();
  forget_destroyed();
}

void advance_a_little(const OperationPtr& goal) {
  if (goal == nullptr || goal->done || (random_order() && draw() % 2 == 0)) return;
  const uint64_t mark = ++marks;
  mark_needed(goal, mark);
  const DeviceAccess access(true);
  step([&](const Operation& o) { return o.mark == mark; });
  check_all_memory();
}

void drop_pending() {
  for (const auto& stream : all_streams()) {
    for (const OperationPtr& operation : stream->queue) operation->done = true;
    stream->queue.clear();
  }
  forget_destroyed();
}

std::recursive_mutex& api_mutex() {
  static auto& mutex = *new std::recursive_mutex;
  return mutex;
}

}  // namespace stillpoint::emulation
