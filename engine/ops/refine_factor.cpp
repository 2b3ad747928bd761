#include "kernels/refine_factor/refine_factor.h"

#include <algorithm>

#include "engine/dispatch.h"
#include "engine/ops.h"
#include "kernels/refine_factor/refine_factor_reference.h"

namespace stillpoint::ops {
namespace {

using kernels::FactorTypes;
using kernels::RefineFactorSizes;

// In the order of the kernel's struct.
std::vector<Tensor> in_order(const FactorWeights& w) {
  return {w.message, w.message_bias, w.factor, w.factor_bias, w.collect,
          w.own,     w.clue,         w.update, w.update_bias};
}

template <class T>
kernels::RefineFactorParameters<const T*> pointers(const FactorWeights& w) {
  return {w.message.data<T>(),     w.message_bias.data<T>(), w.factor.data<T>(),
          w.factor_bias.data<T>(), w.collect.data<T>(),      w.own.data<T>(),
          w.clue.data<T>(),        w.update.data<T>(),       w.update_bias.data<T>()};
}

FactorTypes types_of(const std::vector<int32_t>& first, const Graph& factors) {
  FactorTypes types;
  const int count = static_cast<int>(first.size()) - 1;
  check<OptionError>(count >= 1 && count <= FactorTypes::kMost,
                     "refine_factor: {} types of factors, wanted 1 to {}", count,
                     FactorTypes::kMost);
  check<OptionError>(std::is_sorted(first.begin(), first.end()) && first.front() == 0 &&
                         first.back() == factors.rows(),
                     "refine_factor: types begin at {} and end at {}, wanted ascending from 0 to "
                     "the {} factors",
                     first.front(), first.back(), factors.rows());
  types.count = count;
  std::copy(first.begin(), first.end(), types.first);
  return types;
}

RefineFactorSizes check_inputs(const Tensor& h, const Tensor& clues, const FactorWeights& w,
                               const Graph& factors, const FactorRefinement& options) {
  constexpr const char* kOp = "refine_factor";
  check_floating(h, kOp, "h");
  check<ShapeError>(h.rank() == 3 && h.dim(1) == factors.cols(),
                    "{}: h has shape {}, wanted [boards, {}, channels]", kOp, h.shape(),
                    factors.cols());
  check_dtype(clues, DType::i32, kOp, "clues");
  check_shape(clues, {h.dim(0), h.dim(1)}, kOp, "clues");
  check<TypeError>(clues.device() == h.device() && factors.device() == h.device(),
                   "{}: h is on {}, clues on {}, the graph on {}", kOp, name(h.device()),
                   name(clues.device()), name(factors.device()));
  check<OptionError>(options.steps >= 1, "{}: {} steps, wanted 1 or more", kOp, options.steps);
  check<OptionError>(options.precision == Precision::f32 || h.device() == Device::cpu,
                     "{}: products in bf16 for tensors on {}, wanted on the CPU", kOp,
                     name(h.device()));
  check_like(w.clue, h, kOp, "clue");
  check<ShapeError>(w.clue.rank() == 2 && w.clue.dim(0) >= 1,
                    "{}: clue has shape {}, wanted [kinds, hidden]", kOp, w.clue.shape());
  const RefineFactorSizes sizes{.boards = h.dim(0),
                                .nodes = h.dim(1),
                                .channels = h.dim(2),
                                .hidden = w.clue.dim(1),
                                .kinds = w.clue.dim(0),
                                .steps = options.steps,
                                .types = types_of(options.types, factors),
                                .epsilon = options.epsilon,
                                .precision = options.precision};
  const int64_t c = sizes.channels, types = sizes.types.count;
  const auto check_weight = [&](const Tensor& t, const Shape& wanted, const char* what) {
    check_like(t, h, kOp, what);
    check_shape(t, wanted, kOp, what);
  };
  check_weight(w.message, {c, c}, "message");
  check_weight(w.message_bias, {c}, "message_bias");
  check_weight(w.factor, {types * c, c}, "factor");
  check_weight(w.factor_bias, {types * c}, "factor_bias");
  check_weight(w.collect, {sizes.hidden, types * c}, "collect");
  check_weight(w.own, {sizes.hidden, 2 * c}, "own");
  check_weight(w.update, {c, sizes.hidden}, "update");
  check_weight(w.update_bias, {c}, "update_bias");
  if (clues.device() == Device::cpu && clues.numel() > 0) {
    const int32_t* k = clues.data<int32_t>();
    const auto [least, most] = std::minmax_element(k, k + clues.numel());
    check<OptionError>(*least >= 0 && *most < sizes.kinds,
                       "{}: clues from {} to {}, wanted 0 to {}", kOp, *least, *most,
                       sizes.kinds - 1);
  }
  return sizes;
}

enum class Direction : uint8_t { forward, backward };

Tensor workspace(const RefineFactorSizes& sizes, const Tensor& h, Direction direction) {
  const bool forward = direction == Direction::forward;
  int64_t size = kernels::reference::refine_factor_workspace(sizes);
#if defined(STILLPOINT_HAVE_CUDA)
  if (h.device() == Device::cuda) {
    size = forward ? kernels::cuda::refine_factor_workspace(sizes)
                   : kernels::cuda::refine_factor_backward_workspace(sizes);
  }
#endif
  if (h.device() == Device::cpu && h.dtype() == DType::f32) {
    size = forward ? kernels::cpu::refine_factor_workspace(sizes)
                   : kernels::cpu::refine_factor_backward_workspace(sizes);
  }
  return Tensor::empty({size}, h.options());
}

struct Saved {
  RefineFactorSizes sizes;
  Graph factors;
  Tensor h, clues;
  FactorWeights weights;
  Tensor u, r, messages;
};

// Of h and, unless all of them are constants, of every parameter.
Gradients fused_backward(const Tensor& g, const Tensor& states, const Saved& s) {
  Tensor dh = Tensor::empty(s.h.shape(), s.h.options());
  const FactorWeights& w = s.weights;
  Tensor all;
  for (const Tensor& weight : in_order(w))
    if (weight.requires_grad() && !all)
      all = Tensor::empty({kernels::parameter_count(s.sizes)}, s.h.options());
  Tensor work = workspace(s.sizes, s.h, Direction::backward);
  STILLPOINT_DISPATCH(refine_factor_backward, s.h, ([&]<class T>() {
                        return kernels::RefineFactorBackwardArgs<T>{
                            .sizes = s.sizes,
                            .members = s.factors.view(),
                            .factors = s.factors.transposed_view(),
                            .h = s.h.data<T>(),
                            .clues = s.clues.data<int32_t>(),
                            .parameters = pointers<T>(s.weights),
                            .states = states.data<T>(),
                            .u = s.u.data<T>(),
                            .r = s.r.data<T>(),
                            .messages = s.messages ? s.messages.data<T>() : nullptr,
                            .g = g.data<T>(),
                            .dh = dh.mutable_data<T>(),
                            .dparameters = all ? all.mutable_data<T>() : nullptr,
                            .workspace = work.mutable_data<T>()};
                      }));
  const auto once = [&](const Tensor& gradient) {
    return record_undifferentiable("refine_factor_backward",
                                   {g, s.h, w.message, w.message_bias, w.factor, w.factor_bias,
                                    w.collect, w.own, w.clue, w.update, w.update_bias},
                                   gradient);
  };
  Gradients gradients{once(dh)};
  int64_t offset = 0;
  for (const Tensor& weight : in_order(w)) {
    gradients.push_back(all ? once(all.alias(weight.shape(), offset)) : Tensor());
    offset += weight.numel();
  }
  return gradients;
}

}  // namespace

Tensor refine_factor(const Tensor& h, const Tensor& clues, const FactorWeights& w,
                     const Graph& factors, const FactorRefinement& options) {
  const RefineFactorSizes sizes = check_inputs(h, clues, w, factors, options);
  const std::vector<Tensor> parameters = in_order(w);
  std::vector<Tensor> inputs = {h};
  inputs.insert(inputs.end(), parameters.begin(), parameters.end());
  const bool recorded =
      std::any_of(inputs.begin(), inputs.end(), [](const Tensor& t) { return needs_record({t}); });
  const bool all = recorded || options.keep == States::all;

  Saved saved{sizes, factors, h, clues, w, {}, {}, {}};
  Shape shape = h.shape();
  if (all) shape.insert(shape.begin(), sizes.steps);
  Tensor states = Tensor::empty(shape, h.options());
  if (all) {
    saved.u = Tensor::empty({sizes.steps, sizes.boards, sizes.nodes, sizes.hidden}, h.options());
    saved.r = Tensor::empty({sizes.steps, sizes.boards, sizes.nodes}, h.options());
  }
  if (recorded && h.device() == Device::cpu && h.dtype() == DType::f32)
    saved.messages =
        Tensor::empty({sizes.steps, sizes.boards, kernels::message_count(sizes)}, h.options());
  Tensor work = workspace(sizes, h, Direction::forward);
  STILLPOINT_DISPATCH(refine_factor, h, ([&]<class T>() {
                        return kernels::RefineFactorArgs<T>{
                            .sizes = sizes,
                            .members = factors.view(),
                            .factors = factors.transposed_view(),
                            .h = h.data<T>(),
                            .clues = clues.data<int32_t>(),
                            .parameters = pointers<T>(w),
                            .states = states.mutable_data<T>(),
                            .u = all ? saved.u.mutable_data<T>() : nullptr,
                            .r = all ? saved.r.mutable_data<T>() : nullptr,
                            .messages = saved.messages ? saved.messages.mutable_data<T>() : nullptr,
                            .workspace = work.mutable_data<T>()};
                      }));
  if (!recorded) return states;
  states = record_many("refine_factor", std::move(inputs), {states},
                       [saved, kept = states.detach()](std::span<const Tensor> g) {
                         return fused_backward(g[0], kept, saved);
                       })[0];
  if (options.keep == States::all) return states;
  return reshape(rows(states, sizes.steps - 1, 1), h.shape());
}

}  // namespace stillpoint::ops
