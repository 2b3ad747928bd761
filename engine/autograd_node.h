// The tape's nodes. For the files of engine/ only.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "engine/autograd.h"
#include "engine/tensor_impl.h"

namespace stillpoint::autograd {

struct Node {
  ~Node();

  const char* op = "";
  uint64_t id = 0;             // later ops have greater ids: the order of differentiation
  std::vector<Tensor> inputs;  // keeps the tape below alive; without elements, but for leaves
  std::vector<Shape> output_shapes;
  std::vector<TensorOptions> output_options;
  BackwardOfGradients backward;  // emptied once used, unless the graph is retained
};

// The id that the next recorded op will get.
uint64_t next_node_id();

// Marks `impl` as output `index` of `node`.
void attach(Tensor::Impl& impl, std::shared_ptr<Node> node, int index);

}  // namespace stillpoint::autograd
