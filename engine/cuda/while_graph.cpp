#include "engine/cuda/while_graph.h"

#include <cuda_runtime.h>

#include <memory>

#include "engine/cuda/runtime.h"

namespace stillpoint::cuda {
namespace {

void checked(cudaError_t code, const char* call) {
  check_status({.code = static_cast<int>(code), .call = call}, "while_graph");
}

struct Destroy {
  void operator()(CUgraph_st* graph) const { (void)cudaGraphDestroy(graph); }
};

// What the body put on the stream so far is dropped if it throws.
void capture(cudaGraph_t into, const std::function<void()>& body) {
  checked(cudaStreamBeginCaptureToGraph(stream(), into, nullptr, nullptr, 0,
                                        cudaStreamCaptureModeThreadLocal),
          "cudaStreamBeginCaptureToGraph");
  cudaGraph_t captured = nullptr;
  try {
    body();
  } catch (...) {
    (void)cudaStreamEndCapture(stream(), &captured);
    (void)cudaGetLastError();
    throw;
  }
  checked(cudaStreamEndCapture(stream(), &captured), "cudaStreamEndCapture");
}

}  // namespace

WhileGraph::WhileGraph(const std::function<void(uint64_t)>& body) {
  cudaGraph_t made = nullptr;
  checked(cudaGraphCreate(&made, 0), "cudaGraphCreate");
  std::unique_ptr<CUgraph_st, Destroy> graph(made);
  cudaGraphConditionalHandle condition = 0;
  checked(cudaGraphConditionalHandleCreate(&condition, made, 1, cudaGraphCondAssignDefault),
          "cudaGraphConditionalHandleCreate");
  cudaGraphNodeParams loop{};
  loop.type = cudaGraphNodeTypeConditional;
  loop.conditional.handle = condition;
  loop.conditional.type = cudaGraphCondTypeWhile;
  loop.conditional.size = 1;
  cudaGraphNode_t node = nullptr;
  checked(cudaGraphAddNode(&node, made, nullptr, nullptr, 0, &loop), "cudaGraphAddNode");
  capture(loop.conditional.phGraph_out[0], [&] { body(condition); });
  checked(cudaGraphInstantiate(&executable_, made, 0), "cudaGraphInstantiate");
  graph_ = graph.release();
}

WhileGraph::~WhileGraph() {
  (void)cudaGraphExecDestroy(executable_);
  (void)cudaGraphDestroy(graph_);
}

void WhileGraph::launch() { checked(cudaGraphLaunch(executable_, stream()), "cudaGraphLaunch"); }

}  // namespace stillpoint::cuda
