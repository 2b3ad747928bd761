// Reverse-mode differentiation on an eager tape. Every recorded op leaves a node that knows its
// inputs and how to turn the gradient of its output into gradients of its inputs. The gradient
// closure stands right below the forward:
//
//   Tensor tanh(const Tensor& x) {
//     Tensor y = ...;
//     return record("tanh", {x}, y, [](const Tensor& g, const Tensor& y) {
//       return Gradients{mul(g, sub(1, square(y)))};
//     });
//   }
//
// A closure written with ops can itself be recorded, which is what second derivatives are
// (create_graph). Accumulation runs in the reverse order of recording, so gradients are the same
// bits in every run.
#pragma once

#include <functional>
#include <initializer_list>
#include <span>
#include <vector>

#include "engine/tensor.h"

namespace stillpoint {

// One gradient per input; an undefined tensor says "none" (an integer input, or one that needs
// none).
using Gradients = std::vector<Tensor>;

// ---- recording ---------------------------------------------------------------------------------

bool grad_enabled();

// While one of these lives, this thread records nothing.
class NoGrad {
 public:
  NoGrad();
  ~NoGrad();
  NoGrad(const NoGrad&) = delete;
  NoGrad& operator=(const NoGrad&) = delete;

 private:
  bool before_;
};

// Records again inside a NoGrad.
class WithGrad {
 public:
  WithGrad();
  ~WithGrad();
  WithGrad(const WithGrad&) = delete;
  WithGrad& operator=(const WithGrad&) = delete;

 private:
  bool before_;
};

// True if recording is on and any of the inputs needs a gradient: then saving state for the
// backward is worth it.
bool needs_record(std::initializer_list<Tensor> inputs);

// Records that `output` came from `inputs`. Returns `output`, unrecorded when nothing needs a
// gradient. The closure may capture inputs, never the output (that would be a cycle): take it as
// the second argument instead.
using BackwardOfGradient = std::function<Gradients(const Tensor& g)>;
using BackwardOfOutput = std::function<Gradients(const Tensor& g, const Tensor& output)>;
Tensor record(const char* op, std::initializer_list<Tensor> inputs, Tensor output,
              BackwardOfGradient backward);
Tensor record(const char* op, std::initializer_list<Tensor> inputs, Tensor output,
              BackwardOfOutput backward);
// For a variable number of inputs and for several outputs. The closure gets one gradient per
// output, undefined where nothing flowed back.
using BackwardOfGradients = std::function<Gradients(std::span<const Tensor> g)>;
std::vector<Tensor> record_many(const char* op, std::vector<Tensor> inputs,
                                std::vector<Tensor> outputs, BackwardOfGradients backward);
// Records an output that must not be differentiated (again): asking throws GradientError, naming
// the op. Backward kernels that have no gradient of their own use it.
Tensor record_undifferentiable(const char* op, std::initializer_list<Tensor> inputs, Tensor output);

// ---- differentiating ---------------------------------------------------------------------------

struct BackwardOptions {
  bool create_graph = false;  // record the gradients themselves, so that they can be differentiated
  bool retain_graph = false;  // keep saved state for a second pass; implied by create_graph
};

// Adds d loss / d leaf to grad() of every leaf that requires a gradient. `loss` has one element.
void backward(const Tensor& loss, BackwardOptions options = {});

// The same in two halves: grad() of the leaves stays as it is until the gradients are added to it,
// which is recorded as other ops are. For parts of a loss that go through their backwards side by
// side, each on a thread of its own, and add up in one order.
struct LeafGradient {
  Tensor leaf, gradient;
};
std::vector<LeafGradient> leaf_gradients(const Tensor& loss, BackwardOptions options = {});
void add_gradients(std::span<const LeafGradient> gradients);

// sum_k cotangents[k]^T d outputs[k] / d inputs: one gradient per input, zeros where an input has
// no influence. Leaves' grad() stay untouched, and only the part of the tape between is visited.
std::vector<Tensor> vjp(std::span<const Tensor> outputs, std::span<const Tensor> inputs,
                        std::span<const Tensor> cotangents, BackwardOptions options = {});
Tensor vjp(const Tensor& output, const Tensor& input, const Tensor& cotangent,
           BackwardOptions options = {});

// f(inputs) without keeping what its backward needs: backward() runs f again. Costs one more
// forward, saves the memory between. Chen et al., "Training deep nets with sublinear memory cost",
// arXiv 1604.06174. f must be a pure function of its inputs and of tensors it captures, parameters
// say, which receive their gradients too.
using TensorFunction = std::function<Tensor(std::span<const Tensor>)>;
Tensor checkpoint(const TensorFunction& f, std::vector<Tensor> inputs);

}  // namespace stillpoint
