// The recording half of autograd: nodes, modes, record().
#include <algorithm>
#include <atomic>
#include <iterator>
#include <utility>

#include "engine/autograd_node.h"

namespace stillpoint {
namespace {

thread_local bool recording = true;
std::atomic<uint64_t> node_counter{1};
thread_local uint64_t gradients_since = 0;

}  // namespace

namespace autograd {

// A long tape is a long chain of owners; freeing it by plain recursion would exhaust the stack. The
// first node to go collects what the others leave. The list is not thread-local itself: a tensor in
// static storage outlives all such objects.
Node::~Node() {
  thread_local std::vector<std::vector<Tensor>>* orphans = nullptr;
  backward = nullptr;
  if (orphans != nullptr) {
    orphans->push_back(std::move(inputs));
    return;
  }
  std::vector<std::vector<Tensor>> list;
  list.push_back(std::move(inputs));
  orphans = &list;
  while (!list.empty()) {
    const std::vector<Tensor> next = std::move(list.back());
    list.pop_back();
  }
  orphans = nullptr;
}

uint64_t next_node_id() { return node_counter.load(); }

uint64_t requires_grad_since() { return gradients_since; }
OnlySince::OnlySince(uint64_t first_id) : before_(std::exchange(gradients_since, first_id)) {}
OnlySince::~OnlySince() { gradients_since = before_; }
uint64_t skip_node_id() { return node_counter.fetch_add(1) + 1; }

void attach(Tensor::Impl& impl, std::shared_ptr<Node> node, int index) {
  impl.node = std::move(node);
  impl.node_output = index;
}

}  // namespace autograd

bool grad_enabled() { return recording; }
NoGrad::NoGrad() : before_(std::exchange(recording, false)) {}
NoGrad::~NoGrad() { recording = before_; }
WithGrad::WithGrad() : before_(std::exchange(recording, true)) {}
WithGrad::~WithGrad() { recording = before_; }

bool needs_record(std::initializer_list<Tensor> inputs) {
  return recording && std::any_of(inputs.begin(), inputs.end(),
                                  [](const Tensor& t) { return t.requires_grad(); });
}

namespace {

// An input as the tape keeps it: where it came from and its shape, not its elements, which live on
// only if a closure saved them. Leaves stay themselves: their gradient is put in place.
Tensor without_elements(const Tensor& t) {
  if (!t.defined()) return t;
  const Tensor::Impl& from = *AutogradAccess::impl(t);
  if (from.leaf_requires_grad) return t;
  auto impl = std::make_shared<Tensor::Impl>();
  impl->shape = from.shape;
  impl->numel = from.numel;
  impl->options = from.options;
  impl->node = from.node;
  impl->node_output = from.node_output;
  return AutogradAccess::wrap(std::move(impl));
}

}  // namespace

std::vector<Tensor> record_many(const char* op, std::vector<Tensor> inputs,
                                std::vector<Tensor> outputs, BackwardOfGradients backward) {
  const bool wanted = recording && std::any_of(inputs.begin(), inputs.end(),
                                               [](const Tensor& t) { return t.requires_grad(); });
  if (!wanted) return outputs;
  auto node = std::make_shared<autograd::Node>();
  node->op = op;
  node->id = node_counter.fetch_add(1);
  std::transform(inputs.begin(), inputs.end(), std::back_inserter(node->inputs), without_elements);
  node->backward = std::move(backward);
  for (size_t k = 0; k < outputs.size(); ++k) {
    node->output_shapes.push_back(outputs[k].shape());
    node->output_options.push_back(outputs[k].options());
    outputs[k] =
        outputs[k].detach();  // an op may return one of its inputs; the node goes on a fresh handle
    autograd::attach(*AutogradAccess::impl(outputs[k]), node, static_cast<int>(k));
  }
  return outputs;
}

Tensor record(const char* op, std::initializer_list<Tensor> inputs, Tensor output,
              BackwardOfGradient backward) {
  if (!needs_record(inputs)) return output;
  return record_many(op, inputs, {std::move(output)},
                     [f = std::move(backward)](std::span<const Tensor> g) { return f(g[0]); })[0];
}

Tensor record(const char* op, std::initializer_list<Tensor> inputs, Tensor output,
              BackwardOfOutput backward) {
  if (!needs_record(inputs)) return output;
  // The closure lives in the node and the output owns the node: it must hold the data only and meet
  // the node again at the time of the backward.
  auto self = std::make_shared<std::weak_ptr<autograd::Node>>();
  Tensor y = record_many(
      op, inputs, {output},
      [f = std::move(backward), data = output.detach(), self](std::span<const Tensor> g) {
        Tensor handle = data.detach();
        if (auto node = self->lock()) autograd::attach(*AutogradAccess::impl(handle), node, 0);
        return f(g[0], handle);
      })[0];
  *self = AutogradAccess::impl(y)->node;
  return y;
}

Tensor record_undifferentiable(const char* op, std::initializer_list<Tensor> inputs,
                               Tensor output) {
  return record(op, inputs, std::move(output), [op](const Tensor&) -> Gradients {
    throw GradientError(
        fmt::format("{}: has no derivative here; it is the backward of an op that "
                    "can be differentiated once",
                    op));
  });
}

}  // namespace stillpoint
