// Capture of streams into graphs, and graphs run again. The nodes of a launched graph run in an
// order drawn anew among those that their dependencies allow.
#include <cuda_runtime.h>

#include <algorithm>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "kernels/emulation/block.h"
#include "kernels/emulation/device.h"

struct CUgraph_st {
  struct Node {
    std::function<void()> run;
    bool on_host = false;
    const void* host = nullptr;
    size_t host_bytes = 0;
    std::vector<size_t> after;
  };
  std::vector<Node> nodes;
  uint64_t number = 0;  // of the capture that made it
  CUstream_st* origin = nullptr;
  cudaError_t broken = cudaSuccess;  // why the capture is invalid
};

struct CUgraphExec_st {
  std::vector<CUgraph_st::Node> nodes;
};

namespace stillpoint::emulation {
namespace {

auto& graphs = *new std::set<CUgraph_st*>;
uint64_t captures = 0;
auto& executables = *new std::set<CUgraphExec_st*>;

// Whether the origin's last node awaits every other: what forked has joined again.
bool joined(const CUgraph_st& graph) {
  std::vector<bool> awaited(graph.nodes.size());
  for (const CUgraph_st::Node& node : graph.nodes) {
    for (const size_t before : node.after) awaited[before] = true;
  }
  const OperationPtr& last = graph.origin->last;
  for (size_t i = 0; i < awaited.size(); ++i) {
    if (!awaited[i] && (last == nullptr || last->capture != graph.number || last->node != i))
      return false;
  }
  return true;
}

std::vector<size_t> draw_order(const std::vector<CUgraph_st::Node>& nodes) {
  std::vector<size_t> order, ready;
  std::vector<bool> done(nodes.size());
  while (order.size() < nodes.size()) {
    ready.clear();
    for (size_t i = 0; i < nodes.size(); ++i) {
      const bool free = std::all_of(nodes[i].after.begin(), nodes[i].after.end(),
                                    [&](size_t before) { return done[before]; });
      if (!done[i] && free) ready.push_back(i);
    }
    order.push_back(ready[random_order() ? draw() % ready.size() : 0]);
    done[order.back()] = true;
  }
  return order;
}

void end_captures(const CUgraph_st* graph) {
  for (const auto& stream : all_streams()) {
    if (stream->capture != graph) continue;
    stream->capture = nullptr;
    stream->last = stream->queue.empty() ? nullptr : stream->queue.back();  // as before it
  }
}

}  // namespace

OperationPtr capture(CUstream_st* stream, Operation operation) {
  CUgraph_st& graph = *stream->capture;
  CUgraph_st::Node node{
      std::move(operation.run), operation.on_host, operation.host, operation.host_bytes, {}};
  if (stream->last != nullptr) operation.after.push_back(stream->last);
  for (const OperationPtr& before : operation.after) {
    if (before->capture == graph.number) {
      node.after.push_back(before->node);
    } else if (before != stream->last && !before->done) {
      graph.broken = cudaErrorStreamCaptureIsolation;  // an event from outside the capture
    }
  }
  auto pointer = std::make_shared<Operation>();
  pointer->stream = stream;
  pointer->capture = graph.number;
  pointer->node = graph.nodes.size();
  graph.nodes.push_back(std::move(node));
  return stream->last = pointer;
}

cudaError_t join_capture(const char* call, CUstream_st* stream, const Operation& record) {
  if (record.capture == 0 || stream->capture != nullptr) return cudaSuccess;
  for (const auto& other : all_streams()) {
    if (other->capture == nullptr || other->capture->number != record.capture) continue;
    if (stream == all_streams().front().get()) {
      other->capture->broken = cudaErrorStreamCaptureInvalidated;
      return error(cudaErrorStreamCaptureImplicit,
                   std::string(call) + ": the default stream cannot be captured");
    }
    stream->capture = other->capture;
    stream->last = nullptr;
    return cudaSuccess;
  }
  return error(cudaErrorCapturedEvent, std::string(call) + ": an event of a capture that is over");
}

cudaError_t refuse_in_capture(const char* call, const CUstream_st* stream) {
  bool refused = false;
  for (const auto& other : all_streams()) {
    if (other->capture == nullptr || (stream != nullptr && stream != other.get())) continue;
    other->capture->broken = cudaErrorStreamCaptureInvalidated;
    refused = true;
  }
  if (!refused) return cudaSuccess;
  return error(cudaErrorStreamCaptureUnsupported, std::string(call) + " while a stream captures");
}

cudaError_t refuse_implicit(const char* call) {
  bool refused = false;
  for (const auto& other : all_streams()) {
    if (other->capture == nullptr || !other->blocking) continue;
    other->capture->broken = cudaErrorStreamCaptureInvalidated;
    refused = true;
  }
  if (!refused) return cudaSuccess;
  return error(cudaErrorStreamCaptureImplicit,
               std::string(call) + " on the default stream while a blocking stream captures");
}

void drop_captures() {
  for (const auto& stream : all_streams()) {
    CUgraph_st* graph = stream->capture;
    if (graph == nullptr) continue;
    end_captures(graph);
    graphs.erase(graph);
    delete graph;
  }
}

}  // namespace stillpoint::emulation

using namespace stillpoint::emulation;

extern "C" {

cudaError_t cudaStreamBeginCapture(cudaStream_t handle, cudaStreamCaptureMode) {
  STILLPOINT_API;
  CUstream_st* stream = find_stream(handle);
  if (stream == nullptr || handle == nullptr || stream->capture != nullptr) {
    return error(
        cudaErrorInvalidValue,
        "cudaStreamBeginCapture: no such stream, the default stream, or capturing already");
  }
  auto* graph = new CUgraph_st;
  graph->origin = stream;
  graph->number = ++captures;
  graphs.insert(graph);
  stream->capture = graph;
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t handle, cudaGraph_t* result) {
  STILLPOINT_API;
  *result = nullptr;
  CUstream_st* stream = find_stream(handle);
  if (stream == nullptr || stream->capture == nullptr || stream->capture->origin != stream) {
    return error(cudaErrorInvalidValue, "cudaStreamEndCapture: no capture began on the stream");
  }
  CUgraph_st* graph = stream->capture;
  if (graph->broken == cudaSuccess && !joined(*graph)) {
    graph->broken = cudaErrorStreamCaptureUnjoined;
  }
  end_captures(graph);
  if (graph->broken != cudaSuccess) {
    const cudaError_t why = graph->broken;
    graphs.erase(graph);
    delete graph;
    return error(why, "cudaStreamEndCapture: the capture is invalid");
  }
  *result = graph;
  return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t handle, cudaStreamCaptureStatus* status) {
  STILLPOINT_API;
  const CUstream_st* stream = find_stream(handle);
  if (stream == nullptr) {
    return error(cudaErrorInvalidResourceHandle, "cudaStreamIsCapturing: no such stream");
  }
  *status = stream->capture == nullptr               ? cudaStreamCaptureStatusNone
            : stream->capture->broken == cudaSuccess ? cudaStreamCaptureStatusActive
                                                     : cudaStreamCaptureStatusInvalidated;
  return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph,
                                 unsigned long long) {
  STILLPOINT_API;
  if (!graphs.contains(graph)) {
    return error(cudaErrorInvalidValue, "cudaGraphInstantiate: no such graph");
  }
  *executable = new CUgraphExec_st{graph->nodes};
  executables.insert(*executable);
  return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t handle) {
  STILLPOINT_API;
  STILLPOINT_USE_STREAM("cudaGraphLaunch", handle);
  if (!executables.contains(executable)) {
    return error(cudaErrorInvalidValue, "cudaGraphLaunch: no such graph");
  }
  for (const size_t i : draw_order(executable->nodes)) {
    const CUgraph_st::Node& node = executable->nodes[i];
    submit(stream, {.run = node.run,
                    .on_host = node.on_host,
                    .host = node.host,
                    .host_bytes = node.host_bytes});
  }
  return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  const std::lock_guard lock(api_mutex());
  if (executables.erase(executable) == 0) {
    return error(cudaErrorInvalidValue, "cudaGraphExecDestroy: no such graph");
  }
  delete executable;
  return failure();
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  const std::lock_guard lock(api_mutex());
  if (graphs.erase(graph) == 0)
    return error(cudaErrorInvalidValue, "cudaGraphDestroy: no such graph");
  delete graph;
  return failure();
}

}  // extern "C"
