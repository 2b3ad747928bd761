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
#include "kernels/emulation/graph.h"

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

void end_captures(const CUgraph_st* graph) {
  for (const auto& stream : all_streams()) {
    if (stream->capture != graph) continue;
    stream->capture = nullptr;
    stream->last = stream->queue.empty() ? nullptr : stream->queue.back();  // as before it
  }
}

// The body of a loop belongs to the loop.
void drop_graph(CUgraph_st* graph) {
  if (graph->parent != nullptr) {
    graph->nodes.clear();
    return;
  }
  forget_graph(graph);
  delete graph;
}

cudaError_t begin_capture(const char* call, cudaStream_t handle, CUgraph_st* into) {
  CUstream_st* stream = find_stream(handle);
  if (stream == nullptr || handle == nullptr || stream->capture != nullptr) {
    return error(cudaErrorInvalidValue,
                 std::string(call) + ": no such stream, the default stream, or capturing already");
  }
  if (into == nullptr) add_graph(into = new CUgraph_st);
  into->origin = stream;
  into->number = ++captures;
  into->broken = cudaSuccess;
  stream->capture = into;
  return cudaSuccess;
}

}  // namespace

bool is_graph(const CUgraph_st* graph) { return graphs.contains(const_cast<CUgraph_st*>(graph)); }
bool is_executable(const CUgraphExec_st* executable) {
  return executables.contains(const_cast<CUgraphExec_st*>(executable));
}
void add_graph(CUgraph_st* graph) { graphs.insert(graph); }
void forget_graph(CUgraph_st* graph) {
  graphs.erase(graph);
  for (const CUgraph_st::Node& node : graph->nodes) {
    if (node.loop != nullptr) forget_graph(&node.loop->body);
  }
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

OperationPtr capture(CUstream_st* stream, Operation operation) {
  CUgraph_st& graph = *stream->capture;
  CUgraph_st::Node node{.run = std::move(operation.run),
                        .on_host = operation.on_host,
                        .host = operation.host,
                        .host_bytes = operation.host_bytes};
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
    drop_graph(graph);
  }
}

}  // namespace stillpoint::emulation

using namespace stillpoint::emulation;

extern "C" {

cudaError_t cudaStreamBeginCapture(cudaStream_t handle, cudaStreamCaptureMode) {
  STILLPOINT_API;
  return begin_capture("cudaStreamBeginCapture", handle, nullptr);
}

cudaError_t cudaStreamBeginCaptureToGraph(cudaStream_t handle, cudaGraph_t graph,
                                          const cudaGraphNode_t*, const cudaGraphEdgeData*,
                                          size_t dependencies, cudaStreamCaptureMode) {
  STILLPOINT_API;
  if (!is_graph(graph)) {
    return error(cudaErrorInvalidValue, "cudaStreamBeginCaptureToGraph: no such graph");
  }
  if (!graph->nodes.empty() || dependencies != 0) {
    return error(cudaErrorNotSupported,
                 "cudaStreamBeginCaptureToGraph: the graph has nodes, which is not emulated");
  }
  return begin_capture("cudaStreamBeginCaptureToGraph", handle, graph);
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
    drop_graph(graph);
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

cudaError_t cudaGraphCreate(cudaGraph_t* graph, unsigned) {
  STILLPOINT_API;
  add_graph(*graph = new CUgraph_st);
  return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph,
                                 unsigned long long) {
  STILLPOINT_API;
  if (!is_graph(graph) || graph->parent != nullptr) {
    return error(cudaErrorInvalidValue, "cudaGraphInstantiate: no such graph, or a loop's body");
  }
  for (const CUgraph_st::Node& node : graph->nodes) {
    if (node.loop == nullptr) continue;
    if (const std::string found = forbidden_in_body(node.loop->body); !found.empty()) {
      return error(cudaErrorNotSupported,
                   "cudaGraphInstantiate: the body of a conditional node has " + found);
    }
    // Conditions exist once: a second instantiation would share them.
    if (is_executable(node.loop->executable)) {
      return error(cudaErrorNotSupported,
                   "cudaGraphInstantiate: a graph with a conditional node, for the second time");
    }
  }
  *executable = new CUgraphExec_st{graph->nodes, graph->conditions};
  executables.insert(*executable);
  for (const CUgraph_st::Node& node : graph->nodes) {
    if (node.loop != nullptr) node.loop->executable = *executable;
  }
  return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t handle) {
  STILLPOINT_API;
  STILLPOINT_USE_STREAM("cudaGraphLaunch", handle);
  if (!executables.contains(executable)) {
    return error(cudaErrorInvalidValue, "cudaGraphLaunch: no such graph");
  }
  if (!executable->conditions.empty()) {
    if (stream->capture != nullptr) {
      return error(cudaErrorNotSupported,
                   "cudaGraphLaunch: a graph with conditional nodes, into a capture");
    }
    submit(stream, {.run = [conditions = executable->conditions] {
             for (const auto& condition : conditions) {
               condition->value = condition->initial;
               condition->assigned = condition->assigned_at_launch;
               condition->set_by = 0;
             }
           }});
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
  if (!is_graph(graph) || graph->parent != nullptr) {
    return error(cudaErrorInvalidValue, "cudaGraphDestroy: no such graph, or a loop's body");
  }
  drop_graph(graph);
  return failure();
}

}  // extern "C"
