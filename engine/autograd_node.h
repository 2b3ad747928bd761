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
// The same, above all ids and leaf_since that there are.
uint64_t skip_node_id();

// While one of these lives, older tensors count as constants on this thread: requires_grad() is
// false for nodes before `first_id` and for leaves from before it was the next id.
class OnlySince {
 public:
  explicit OnlySince(uint64_t first_id);
  ~OnlySince();
  OnlySince(const OnlySince&) = delete;
  OnlySince& operator=(const OnlySince&) = delete;

 private:
  uint64_t before_;
};
uint64_t requires_grad_since();

// One application of a function on a tape of its own, which begins at fresh leaves: what checkpoint
// and implicit gradients are made of.
enum class Captured : uint8_t {
  differentiated,
  constant  // no gradient flows to what f captured, and none is formed for it
};
struct Segment {
  uint64_t first_id = 0;  // of the application's nodes; the tape above is not its own
  Captured mode = Captured::differentiated;
  std::vector<Tensor> inputs;    // the function's inputs as leaves, needing a gradient as before
  Tensor output;                 // requires no gradient if nothing that went into it does
  std::vector<Tensor> captured;  // what else went into it and needs a gradient: parameters, say
};
// The inputs' elements as leaves that know nothing of where they came from.
std::vector<Tensor> fresh_leaves(const std::vector<Tensor>& inputs);
// Applies f to `leaves` (see fresh_leaves), recording.
Segment apply_on_tape(const TensorFunction& f, std::vector<Tensor> leaves,
                      Captured mode = Captured::differentiated);
// cotangent^T d output / d targets, along the segment only. Zeros for a target without influence.
std::vector<Tensor> segment_vjp(const Segment& segment, const std::vector<Tensor>& targets,
                                const Tensor& cotangent, BackwardOptions options = {});

// Marks `impl` as output `index` of `node`.
void attach(Tensor::Impl& impl, std::shared_ptr<Node> node, int index);

}  // namespace stillpoint::autograd
