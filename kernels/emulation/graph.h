// Graphs, as graph.cpp (streams captured, graphs launched) and conditional.cpp (loops) know them.
#pragma once

#include <cuda_runtime.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "kernels/emulation/device.h"

namespace stillpoint::emulation {

// What a conditional node looks at, and kernels set.
struct Condition {
  cudaGraphConditionalHandle handle = 0;
  unsigned initial = 0, value = 0;
  bool assigned_at_launch = false, assigned = false;
  int64_t set_by = 0;  // the launch, as counters() counts them
};
struct Loop;

}  // namespace stillpoint::emulation

struct CUgraph_st {
  struct Node {
    std::function<void()> run{};
    bool on_host = false;
    const void* host = nullptr;
    size_t host_bytes = 0;
    std::vector<size_t> after{};
    std::shared_ptr<stillpoint::emulation::Loop> loop{};  // of a conditional node
  };
  std::vector<Node> nodes;
  std::vector<std::shared_ptr<stillpoint::emulation::Condition>> conditions;
  CUgraph_st* parent = nullptr;  // of the body of a conditional node: the graph with that node
  uint64_t number = 0;           // of the capture that made it
  CUstream_st* origin = nullptr;
  cudaError_t broken = cudaSuccess;  // why the capture is invalid
};

struct CUgraphExec_st {
  std::vector<CUgraph_st::Node> nodes;
  std::vector<std::shared_ptr<stillpoint::emulation::Condition>> conditions;
};

struct CUgraphNode_st {};

namespace stillpoint::emulation {

// A conditional WHILE node.
struct Loop {
  std::shared_ptr<Condition> condition;
  CUgraph_st body;
  CUgraph_st* out = nullptr;  // what phGraph_out points to
  CUgraphNode_st node;
  CUgraphExec_st* executable = nullptr;  // the one instantiation that there may be at a time
};

bool is_graph(const CUgraph_st* graph);
bool is_executable(const CUgraphExec_st* executable);
void add_graph(CUgraph_st* graph);
void forget_graph(CUgraph_st* graph);  // and the bodies in it
// The nodes in an order that their dependencies allow, drawn anew.
std::vector<size_t> draw_order(const std::vector<CUgraph_st::Node>& nodes);
// Empty, or what is in the body of a conditional node that must not be.
std::string forbidden_in_body(const CUgraph_st& body);

}  // namespace stillpoint::emulation
