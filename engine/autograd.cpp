// The differentiating half of autograd: one sweep over the tape serves backward() and vjp().
#include "engine/autograd.h"

#include <algorithm>
#include <map>
#include <optional>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "engine/autograd_node.h"
#include "engine/ops.h"

namespace stillpoint {
namespace {

using autograd::Node;

// Tensors that are the same point of the tape: a leaf, or one output of one node.
using Point = std::pair<const void*, int>;
Point point_of(const Tensor& t) {
  const Tensor::Impl* impl = AutogradAccess::impl(t);
  if (impl->node) return {impl->node.get(), impl->node_output};
  return {impl, -1};
}
std::shared_ptr<Node> node_of(const Tensor& t) { return AutogradAccess::impl(t)->node; }

// All nodes below the roots that were recorded as `first_id` or later, latest first.
std::vector<std::shared_ptr<Node>> nodes_below(std::span<const Tensor> roots, uint64_t first_id) {
  std::vector<std::shared_ptr<Node>> found, stack;
  std::unordered_set<const Node*> seen;
  const auto visit = [&](const Tensor& t) {
    if (!t.defined()) return;
    if (auto node = node_of(t); node && node->id >= first_id && seen.insert(node.get()).second)
      stack.push_back(std::move(node));
  };
  for (const Tensor& root : roots) visit(root);
  while (!stack.empty()) {
    std::shared_ptr<Node> node = std::move(stack.back());
    stack.pop_back();
    for (const Tensor& input : node->inputs) visit(input);
    found.push_back(std::move(node));
  }
  std::sort(found.begin(), found.end(), [](const auto& a, const auto& b) { return a->id > b->id; });
  return found;
}

// The nodes on a path from a root to a target.
std::unordered_set<const Node*> nodes_towards(const std::vector<std::shared_ptr<Node>>& nodes,
                                              const std::map<Point, size_t>& targets) {
  std::unordered_set<const Node*> useful;
  for (auto node = nodes.rbegin(); node != nodes.rend(); ++node) {
    const bool leads =
        std::any_of((*node)->inputs.begin(), (*node)->inputs.end(), [&](const Tensor& input) {
          return input.defined() &&
                 (targets.count(point_of(input)) != 0 || useful.count(node_of(input).get()) != 0);
        });
    if (leads) useful.insert(node->get());
  }
  return useful;
}

void accumulate(Tensor& sum, const Tensor& g) { sum = sum.defined() ? ops::add(sum, g) : g; }

// Sends the cotangents down the tape. With targets: returns their gradients. Without: finds those
// of the leaves. Stays on the part of the tape that begins with the node `first_id`.
std::vector<Tensor> sweep(std::span<const Tensor> roots, std::span<const Tensor> cotangents,
                          const std::vector<Tensor>* targets, std::vector<LeafGradient>* leaves,
                          BackwardOptions options, uint64_t first_id = 0) {
  std::map<Point, size_t> target_index;
  std::vector<Tensor> result(targets ? targets->size() : 0);
  if (targets)
    for (size_t k = 0; k < targets->size(); ++k)
      target_index.try_emplace(point_of((*targets)[k]), k);

  std::optional<NoGrad> quiet;
  if (!options.create_graph) quiet.emplace();

  const auto nodes = nodes_below(roots, first_id);
  const auto useful =
      targets ? nodes_towards(nodes, target_index) : std::unordered_set<const Node*>{};
  std::unordered_map<const Node*, std::vector<Tensor>> pending;
  std::map<Point, size_t> leaf_index;

  const auto deliver = [&](const Tensor& t, const Tensor& g) {
    if (const auto target = target_index.find(point_of(t)); target != target_index.end())
      accumulate(result[target->second], g);
    if (const auto node = node_of(t)) {
      auto& slots = pending[node.get()];
      slots.resize(node->output_shapes.size());
      accumulate(slots[static_cast<size_t>(AutogradAccess::impl(t)->node_output)], g);
    } else if (leaves && t.requires_grad()) {
      const auto [leaf, fresh] = leaf_index.try_emplace(point_of(t), leaves->size());
      if (fresh) leaves->push_back({t, {}});
      accumulate((*leaves)[leaf->second].gradient, g);
    }
  };

  for (size_t k = 0; k < roots.size(); ++k) deliver(roots[k], cotangents[k]);
  for (const auto& node : nodes) {
    const auto entry = pending.find(node.get());
    if (entry == pending.end() || (targets && useful.count(node.get()) == 0)) continue;
    check<GradientError>(static_cast<bool>(node->backward),
                         "{}: differentiated a second time after its saved state was freed; pass "
                         "retain_graph to the first backward",
                         node->op);
    const Gradients gradients = node->backward(entry->second);
    pending.erase(entry);
    check<GradientError>(gradients.size() == node->inputs.size(),
                         "{}: its backward gave {} gradients for {} inputs", node->op,
                         gradients.size(), node->inputs.size());
    if (!options.create_graph && !options.retain_graph) node->backward = nullptr;
    for (size_t k = 0; k < gradients.size(); ++k) {
      const Tensor& input = node->inputs[k];
      if (!gradients[k].defined() || !input.defined() || !input.requires_grad()) continue;
      check<GradientError>(gradients[k].shape() == input.shape(),
                           "{}: the gradient of input {} has shape {}, the input has {}", node->op,
                           k, gradients[k].shape(), input.shape());
      deliver(input, gradients[k]);
    }
  }
  if (targets)
    for (size_t k = 0; k < targets->size(); ++k) {
      const size_t first = target_index.at(point_of((*targets)[k]));
      if (result[first].defined()) {
        result[k] = result[first];
      } else {
        result[k] = Tensor::zeros((*targets)[k].shape(), (*targets)[k].options());
      }
    }
  return result;
}

void check_cotangent(const Tensor& output, const Tensor& cotangent) {
  check_shape(cotangent, output.shape(), "vjp", "cotangent");
  check_like(cotangent, output, "vjp", "cotangent");
  check<GradientError>(output.requires_grad(),
                       "vjp: the output does not depend on anything that needs a gradient");
}

}  // namespace

std::vector<LeafGradient> leaf_gradients(const Tensor& loss, BackwardOptions options) {
  check<ShapeError>(loss.numel() == 1, "backward: wanted a loss of one element, got shape {}",
                    loss.shape());
  check<GradientError>(loss.requires_grad(),
                       "backward: the loss does not depend on anything that needs a gradient");
  const Tensor one = Tensor::full(loss.shape(), 1.0, loss.options());
  std::vector<LeafGradient> found;
  sweep({&loss, 1}, {&one, 1}, nullptr, &found, options);
  return found;
}

void add_gradients(std::span<const LeafGradient> gradients) {
  for (const auto& [leaf, g] : gradients) accumulate(AutogradAccess::impl(leaf)->gradient, g);
}

void backward(const Tensor& loss, BackwardOptions options) {
  const std::vector<LeafGradient> gradients = leaf_gradients(loss, options);
  std::optional<NoGrad> quiet;
  if (!options.create_graph) quiet.emplace();
  add_gradients(gradients);
}

std::vector<Tensor> vjp(std::span<const Tensor> outputs, std::span<const Tensor> inputs,
                        std::span<const Tensor> cotangents, BackwardOptions options) {
  check<ShapeError>(outputs.size() == cotangents.size(), "vjp: {} outputs and {} cotangents",
                    outputs.size(), cotangents.size());
  for (size_t k = 0; k < outputs.size(); ++k) check_cotangent(outputs[k], cotangents[k]);
  for (const Tensor& input : inputs)
    check<GradientError>(input.requires_grad(),
                         "vjp: an input of shape {} does not require a gradient", input.shape());
  const std::vector<Tensor> targets(inputs.begin(), inputs.end());
  return sweep(outputs, cotangents, &targets, nullptr, options);
}

Tensor vjp(const Tensor& output, const Tensor& input, const Tensor& cotangent,
           BackwardOptions options) {
  return vjp(std::span(&output, 1), std::span(&input, 1), std::span(&cotangent, 1), options)[0];
}

namespace autograd {

std::vector<Tensor> fresh_leaves(const std::vector<Tensor>& inputs) {
  std::vector<Tensor> fresh;
  for (const Tensor& t : inputs) {
    fresh.push_back(t.detach());
    if (t.requires_grad()) fresh.back().set_requires_grad();
  }
  return fresh;
}

Segment apply_on_tape(const TensorFunction& f, std::vector<Tensor> leaves, Captured mode) {
  const WithGrad recording;
  Segment s{.first_id = mode == Captured::constant ? skip_node_id() : next_node_id(),
            .mode = mode,
            .inputs = std::move(leaves),
            .output = {},
            .captured = {}};
  if (mode == Captured::constant) {
    for (Tensor& t : s.inputs)
      if (t.requires_grad()) t.set_requires_grad();  // younger than all that was there
    const OnlySince only(s.first_id);
    s.output = f(s.inputs);
    return s;
  }
  s.output = f(s.inputs);

  // What f captured: every input of its nodes, or its result, that was made before it ran, besides
  // the inputs themselves.
  std::map<Point, Tensor> captured;
  const auto capture = [&](const Tensor& t) {
    if (t.defined() && t.requires_grad() && (!node_of(t) || node_of(t)->id < s.first_id))
      captured.try_emplace(point_of(t), t);
  };
  capture(s.output);
  for (const auto& node : nodes_below({&s.output, 1}, s.first_id))
    for (const Tensor& t : node->inputs) capture(t);
  for (const Tensor& t : s.inputs) captured.erase(point_of(t));
  for (const auto& [point, t] : captured) s.captured.push_back(t);
  return s;
}

std::vector<Tensor> segment_vjp(const Segment& segment, const std::vector<Tensor>& targets,
                                const Tensor& cotangent, BackwardOptions options) {
  std::optional<OnlySince> only;
  if (segment.mode == Captured::constant) only.emplace(segment.first_id);
  return sweep({&segment.output, 1}, {&cotangent, 1}, &targets, nullptr, options, segment.first_id);
}

}  // namespace autograd

Tensor checkpoint(const TensorFunction& f, std::vector<Tensor> inputs) {
  if (!grad_enabled()) return f(inputs);
  const autograd::Segment first = autograd::apply_on_tape(f, autograd::fresh_leaves(inputs));
  std::vector<Tensor> all = inputs;
  all.insert(all.end(), first.captured.begin(), first.captured.end());
  return record_many(
      "checkpoint", all, {first.output.detach()},
      [f, inputs, extra = first.captured](std::span<const Tensor> g) {
        check<GradientError>(!grad_enabled(), "checkpoint: has no second derivative");
        const autograd::Segment again = autograd::apply_on_tape(f, autograd::fresh_leaves(inputs));
        std::vector<Tensor> targets;
        for (const Tensor& t : again.inputs)
          if (t.requires_grad()) targets.push_back(t);
        targets.insert(targets.end(), extra.begin(), extra.end());
        const std::vector<Tensor> found = autograd::segment_vjp(again, targets, g[0]);
        Gradients gradients;
        size_t k = 0;
        for (const Tensor& t : again.inputs)
          gradients.push_back(t.requires_grad() ? found[k++] : Tensor());
        gradients.insert(gradients.end(), found.begin() + static_cast<int64_t>(k), found.end());
        return gradients;
      })[0];
}

}  // namespace stillpoint
