// Graphs with conditional WHILE nodes. A body may hold kernels, fills, copies between device
// memory, and loops again: neither host functions nor copies that touch host memory.
#include <cuda_runtime.h>

#include <algorithm>
#include <map>

#include "kernels/emulation/block.h"
#include "kernels/emulation/graph.h"

namespace stillpoint::emulation {
namespace {

constexpr int64_t kMostIterations = 100000;  // what runs longer is taken to run for ever

auto& conditions = *new std::map<cudaGraphConditionalHandle, std::weak_ptr<Condition>>;
cudaGraphConditionalHandle last_handle = 0;

void run_loop(const Loop& loop) {
  for (int64_t iteration = 0; failure() == cudaSuccess; ++iteration) {
    if (!loop.condition->assigned) {
      report_failure(cudaErrorUnknown,
                     "condition without a value: neither cudaGraphCondAssignDefault nor a kernel "
                     "gave it one");
      return;
    }
    if (loop.condition->value == 0) return;
    if (iteration == kMostIterations) {
      report_failure(cudaErrorUnknown, "endless loop: its condition still holds after " +
                                           std::to_string(kMostIterations) + " iterations");
      return;
    }
    for (const size_t i : draw_order(loop.body.nodes)) {
      if (loop.body.nodes[i].run && failure() == cudaSuccess) loop.body.nodes[i].run();
    }
  }
}

// The condition, if it belongs to the graph or to one that it is inside of.
std::shared_ptr<Condition> find_condition(const CUgraph_st* graph,
                                          cudaGraphConditionalHandle handle) {
  for (; graph != nullptr; graph = graph->parent) {
    for (const auto& condition : graph->conditions) {
      if (condition->handle == handle) return condition;
    }
  }
  return nullptr;
}

}  // namespace

std::string forbidden_in_body(const CUgraph_st& body) {
  for (const CUgraph_st::Node& node : body.nodes) {
    if (node.host != nullptr) return "a copy from or to host memory";
    if (node.on_host) return "a host function";
    if (node.loop == nullptr) continue;
    if (std::string inside = forbidden_in_body(node.loop->body); !inside.empty()) return inside;
  }
  return "";
}

}  // namespace stillpoint::emulation

using namespace stillpoint::emulation;

void cudaGraphSetConditional(cudaGraphConditionalHandle handle, unsigned value) {
  const auto found = conditions.find(handle);
  const std::shared_ptr<Condition> condition =
      found == conditions.end() ? nullptr : found->second.lock();
  if (condition == nullptr) {
    fail(cudaErrorIllegalAddress, "cudaGraphSetConditional", [] { return "no such condition"; });
  }
  // Undefined on a GPU, if two threads do it; here nobody may do it twice.
  if (condition->set_by == counts.launches) {
    fail(cudaErrorUnknown, "cudaGraphSetConditional",
         [] { return "two calls for one condition in one kernel"; });
  }
  condition->set_by = counts.launches;
  condition->value = value;
  condition->assigned = true;
}

extern "C" {

cudaError_t cudaGraphConditionalHandleCreate(cudaGraphConditionalHandle* handle, cudaGraph_t graph,
                                             unsigned initial, unsigned flags) {
  STILLPOINT_API;
  if (!is_graph(graph) || flags > cudaGraphCondAssignDefault) {
    return error(cudaErrorInvalidValue,
                 "cudaGraphConditionalHandleCreate: no such graph, or unknown flags");
  }
  while (graph->parent != nullptr) graph = graph->parent;  // the one that is launched
  *handle = ++last_handle;
  graph->conditions.push_back(std::make_shared<Condition>(
      Condition{.handle = *handle, .initial = initial, .assigned_at_launch = flags != 0}));
  conditions[*handle] = graph->conditions.back();
  return cudaSuccess;
}

cudaError_t cudaGraphAddNode(cudaGraphNode_t* node, cudaGraph_t graph, const cudaGraphNode_t*,
                             const cudaGraphEdgeData*, size_t dependencies,
                             cudaGraphNodeParams* parameters) {
  STILLPOINT_API;
  if (!is_graph(graph)) return error(cudaErrorInvalidValue, "cudaGraphAddNode: no such graph");
  cudaConditionalNodeParams& wanted = parameters->conditional;
  if (parameters->type != cudaGraphNodeTypeConditional || wanted.type != cudaGraphCondTypeWhile ||
      dependencies != 0) {
    return error(cudaErrorNotSupported,
                 "cudaGraphAddNode: only conditional WHILE nodes that depend on nothing are added "
                 "here; other work is captured");
  }
  auto loop = std::make_shared<Loop>();
  loop->condition = find_condition(graph, wanted.handle);
  if (loop->condition == nullptr || wanted.size != 1) {
    return error(cudaErrorInvalidValue,
                 "cudaGraphAddNode: the condition is not of this graph, or there is not one body");
  }
  loop->body.parent = graph;
  loop->out = &loop->body;
  wanted.phGraph_out = &loop->out;
  *node = &loop->node;
  add_graph(&loop->body);
  graph->nodes.push_back({.run = [loop] { run_loop(*loop); }, .loop = loop});
  return cudaSuccess;
}

}  // extern "C"
