#include "kernels/refine/refine.h"

#include <vector>

#include "engine/dispatch.h"
#include "engine/ops.h"
#include "kernels/refine/refine_reference.h"

namespace stillpoint::ops {
namespace {

void check_inputs(const Tensor& h, const Tensor& x, const Graph& graph, const RefineWeights& w,
                  const RefineOptions& options) {
  check_floating(h, "refine", "h");
  check_like(x, h, "refine", "x");
  check<ShapeError>(h.rank() == 3 && h.dim(1) == graph.rows() && graph.rows() == graph.cols(),
                    "refine: h has shape {}, the graph {} rows and {} columns; wanted [batch, "
                    "nodes, channels] and a square graph",
                    h.shape(), graph.rows(), graph.cols());
  const int64_t c = h.dim(2);
  check_shape(x, {h.dim(0), h.dim(1), 3 * c}, "refine", "x");
  const auto check_weight = [&](const Tensor& weight, const Shape& wanted, const char* what) {
    check_like(weight, h, "refine", what);
    check_shape(weight, wanted, "refine", what);
  };
  check_weight(w.receiver, {c, c}, "receiver");
  check_weight(w.receiver_bias, {c}, "receiver_bias");
  check_weight(w.sender, {c, c}, "sender");
  check_weight(w.message, {3 * c, c}, "message");
  check_weight(w.state, {3 * c, c}, "state");
  check_weight(w.state_bias, {3 * c}, "state_bias");
  check<TypeError>(graph.device() == h.device(), "refine: the graph is on {}, its inputs are on {}",
                   name(graph.device()), name(h.device()));
  check<OptionError>(options.steps > 0, "refine: steps is {}, wanted 1 or more", options.steps);
}

bool fits(const Tensor& h) {
#if defined(STILLPOINT_HAVE_CUDA)
  if (h.device() == Device::cuda) return kernels::cuda::refine_fits(h.dim(1), h.dim(2));
#endif
  return h.defined();
}

bool takes_fused(const Tensor& h, RefineForm form) {
  if (form == RefineForm::composed) return false;
  const bool possible = fits(h);
  check<OptionError>(possible || form == RefineForm::automatic,
                     "refine: a sample of {} nodes with {} channels does not fit into a block's "
                     "shared memory, wanted RefineForm::composed or automatic",
                     h.dim(1), h.dim(2));
  return possible;
}

kernels::RefineSize size_of(const Tensor& h, int64_t steps) {
  return {steps, h.dim(0), h.dim(1), h.dim(2),
          h.device() == Device::cuda ? kernels::kRefineCudaChunks : kernels::kRefineCpuChunks};
}

enum class Pass : uint8_t { forward, backward };

int64_t workspace_size([[maybe_unused]] const Tensor& h, const kernels::RefineSize& size,
                       Pass pass) {
  const bool forward = pass == Pass::forward;
#if defined(STILLPOINT_HAVE_CUDA)
  if (h.device() == Device::cuda)
    return forward ? kernels::cuda::refine_workspace(size)
                   : kernels::cuda::refine_backward_workspace(size);
#endif
  return forward ? kernels::refine_workspace(size) : kernels::refine_backward_workspace(size);
}

template <class T>
kernels::RefineWeights<T> pointers(const RefineWeights& w) {
  return {.receiver = w.receiver.data<T>(),
          .receiver_bias = w.receiver_bias.data<T>(),
          .sender = w.sender.data<T>(),
          .message = w.message.data<T>(),
          .state = w.state.data<T>(),
          .state_bias = w.state_bias.data<T>()};
}

struct Problem {
  Tensor h, x;
  Graph graph;
  RefineWeights weights;
  int64_t steps;
};

// The states that `states` asks for; `saved` has no elements where nothing is to be kept.
Tensor run(const Problem& p, kernels::RefineStates states, Tensor& saved) {
  const bool all = states == kernels::RefineStates::all;
  Shape shape = p.h.shape();
  if (all) shape.insert(shape.begin(), p.steps);
  const kernels::RefineSize size = size_of(p.h, p.steps);
  Tensor out = Tensor::empty(std::move(shape), p.h.options());
  Tensor workspace = Tensor::empty({workspace_size(p.h, size, Pass::forward)}, p.h.options());
  STILLPOINT_DISPATCH(refine, p.h, ([&]<class T>() {
                        return kernels::RefineArgs<T>{
                            .h = p.h.data<T>(),
                            .x = p.x.data<T>(),
                            .weights = pointers<T>(p.weights),
                            .out = out.mutable_data<T>(),
                            .saved = saved.numel() > 0 ? saved.mutable_data<T>() : nullptr,
                            .workspace = workspace.mutable_data<T>(),
                            .pattern = p.graph.view(),
                            .size = size,
                            .states = states};
                      }));
  return out;
}

// {dh, dx, the gradients of the weights in the order of RefineWeights}.
Gradients backward(const Tensor& g, const Tensor& out, const Tensor& saved, const Problem& p) {
  const RefineWeights& w = p.weights;
  const TensorOptions options = p.h.options();
  const kernels::RefineSize size = size_of(p.h, p.steps);
  const int64_t c = size.channels;
  Tensor dh = Tensor::empty(p.h.shape(), options);
  Tensor dx, dw;
  if (p.x.requires_grad()) dx = Tensor::empty(p.x.shape(), options);
  for (const Tensor& t : {w.receiver, w.receiver_bias, w.sender, w.message, w.state, w.state_bias})
    if (t.requires_grad() && !dw) dw = Tensor::empty({kernels::refine_parameters(c)}, options);
  Tensor workspace = Tensor::empty({workspace_size(p.h, size, Pass::backward)}, options);
  STILLPOINT_DISPATCH(refine_backward, p.h, ([&]<class T>() {
                        return kernels::RefineBackwardArgs<T>{
                            .h = p.h.data<T>(),
                            .x = p.x.data<T>(),
                            .weights = pointers<T>(w),
                            .out = out.data<T>(),
                            .saved = saved.data<T>(),
                            .g = g.data<T>(),
                            .dh = dh.mutable_data<T>(),
                            .dx = dx ? dx.mutable_data<T>() : nullptr,
                            .dweights = dw ? dw.mutable_data<T>() : nullptr,
                            .workspace = workspace.mutable_data<T>(),
                            .pattern = p.graph.view(),
                            .transposed = p.graph.transposed_view(),
                            .size = size};
                      }));
  const auto once = [&](const Tensor& t) {
    return record_undifferentiable(
        "refine_backward",
        {g, p.h, p.x, w.receiver, w.receiver_bias, w.sender, w.message, w.state, w.state_bias}, t);
  };
  // Where each stands: kernels/refine/refine.h.
  const auto weight = [&](Shape shape, int64_t row) {
    return dw ? once(dw.alias(std::move(shape), row * c)) : Tensor();
  };
  return {once(dh),
          dx ? once(dx) : Tensor(),
          weight({c, c}, 0),
          weight({c}, 8 * c),
          weight({c, c}, c),
          weight({3 * c, c}, 5 * c),
          weight({3 * c, c}, 2 * c),
          weight({3 * c}, 8 * c + 1)};
}

Tensor fused(const Problem& p, States keep) {
  const RefineWeights& w = p.weights;
  const bool recorded = needs_record(
      {p.h, p.x, w.receiver, w.receiver_bias, w.sender, w.message, w.state, w.state_bias});
  const bool saves = recorded && p.h.device() == Device::cpu && p.h.dtype() == DType::f32;
  Tensor saved =
      Tensor::empty({saves ? kernels::refine_saved(size_of(p.h, p.steps)) : 0}, p.h.options());
  if (keep == States::last && !recorded) return run(p, kernels::RefineStates::last, saved);
  const Tensor out = record(
      "refine", {p.h, p.x, w.receiver, w.receiver_bias, w.sender, w.message, w.state, w.state_bias},
      run(p, kernels::RefineStates::all, saved),
      [p, saved](const Tensor& g, const Tensor& y) { return backward(g, y, saved, p); });
  return keep == States::all ? out : reshape(rows(out, p.steps - 1, 1), p.h.shape());
}

// The same from other ops, step by step.
Tensor composed(const Problem& p, States keep) {
  const RefineWeights& w = p.weights;
  Tensor h = p.h;
  std::vector<Tensor> all;
  for (int64_t t = 0; t < p.steps; ++t) {
    const Tensor s =
        message_sum(linear(h, w.receiver, w.receiver_bias), linear(h, w.sender), p.graph);
    h = gru_cell(add(p.x, linear(s, w.message)), linear(h, w.state, w.state_bias), h);
    if (keep == States::all) all.push_back(reshape(h, {h.numel()}));
  }
  if (keep == States::last) return h;
  Shape shape = p.h.shape();
  shape.insert(shape.begin(), p.steps);
  return reshape(concat(all), std::move(shape));
}

}  // namespace

Tensor refine(const Tensor& h, const Tensor& x, const Graph& graph, const RefineWeights& weights,
              RefineOptions options) {
  check_inputs(h, x, graph, weights, options);
  const Problem p{h, x, graph, weights, options.steps};
  return takes_fused(h, options.form) ? fused(p, options.keep) : composed(p, options.keep);
}

}  // namespace stillpoint::ops
