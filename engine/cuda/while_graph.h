// A loop on the device without the host: a CUDA graph with a conditional WHILE node.
#pragma once

#include <cstdint>
#include <functional>

struct CUgraph_st;      // what cudaGraph_t points to
struct CUgraphExec_st;  // what cudaGraphExec_t points to

namespace stillpoint::cuda {

class WhileGraph {
 public:
  // Captures one iteration: all that `body` puts on the engine's stream, the last of it a kernel
  // that sets the condition it is given (a cudaGraphConditionalHandle). `body` has been run before:
  // while it is captured it may not wait for the device, copy from or to the host, or take memory
  // that nobody freed before. Throws DeviceError if it does; what `body` throws passes through.
  //
  // What tensors of the body used is free for others as soon as it has been captured. That is
  // harmless as long as the graph is launched before anything else is put on the stream.
  explicit WhileGraph(const std::function<void(uint64_t condition)>& body);
  ~WhileGraph();  // NOLINT(performance-trivially-destructible): it is where there is no CUDA
  WhileGraph(const WhileGraph&) = delete;
  WhileGraph& operator=(const WhileGraph&) = delete;

  // Puts the loop on the stream: at least one iteration, then others while the condition holds.
  void launch();

 private:
  CUgraph_st* graph_ = nullptr;
  CUgraphExec_st* executable_ = nullptr;
};

}  // namespace stillpoint::cuda
