#include "kernels/attention/attention.h"

#include <cmath>

#include "engine/dispatch.h"
#include "engine/ops.h"
#include "kernels/attention/attention_reference.h"

namespace stillpoint::ops {
namespace {

kernels::AttentionShape shape_of(const Tensor& q, const Tensor& k, const AttentionOptions& o) {
  const int64_t width = q.dim(2) / o.heads;
  return {.batch = q.dim(0),
          .queries = q.dim(1),
          .keys = k.dim(1),
          .heads = o.heads,
          .width = width,
          .mask = o.mask == AttentionMask::causal ? kernels::AttentionMask::causal
                                                  : kernels::AttentionMask::none,
          .scale = 1 / std::sqrt(static_cast<double>(width))};
}

void check_inputs(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionOptions& o) {
  check_floating(q, "attention", "q");
  check_like(k, q, "attention", "k");
  check_like(v, q, "attention", "v");
  check<ShapeError>(q.rank() == 3, "attention: q has shape {}, wanted [batch, queries, channels]",
                    q.shape());
  check<OptionError>(o.heads > 0 && q.dim(2) % o.heads == 0 && q.dim(2) > 0,
                     "attention: {} heads share {} channels, wanted a divisor", o.heads, q.dim(2));
  check<ShapeError>(q.dim(2) / o.heads <= kernels::kAttentionWidth,
                    "attention: heads are {} channels wide, wanted {} at most", q.dim(2) / o.heads,
                    kernels::kAttentionWidth);
  check<ShapeError>(k.rank() == 3 && k.dim(0) == q.dim(0) && k.dim(2) == q.dim(2),
                    "attention: k has shape {}, wanted [{}, keys, {}]", k.shape(), q.dim(0),
                    q.dim(2));
  check_shape(v, k.shape(), "attention", "v");
  check<ShapeError>(o.mask != AttentionMask::causal || k.dim(1) == q.dim(1),
                    "attention: a causal mask over {} queries and {} keys, wanted as many",
                    q.dim(1), k.dim(1));
  if (!o.key_mask) return;
  check_dtype(o.key_mask, DType::i32, "attention", "key_mask");
  check_shape(o.key_mask, {k.dim(0), k.dim(1)}, "attention", "key_mask");
  check<TypeError>(o.key_mask.device() == q.device(), "attention: key_mask is on {}, q on {}",
                   name(o.key_mask.device()), name(q.device()));
}

const int32_t* mask_of(const AttentionOptions& o) {
  return o.key_mask ? o.key_mask.data<int32_t>() : nullptr;
}

// Scratch of the CPU's kernels; the other backends use none.
Tensor workspace_for(const Tensor& q, int64_t elements) {
  const bool used = q.device() == Device::cpu && q.dtype() == DType::f32;
  return Tensor::empty({used ? elements : 0}, q.options());
}

Gradients attention_backward(const Tensor& g, const Tensor& out, const Tensor& q, const Tensor& k,
                             const Tensor& v, const Tensor& log_sum,
                             const AttentionOptions& options) {
  const kernels::AttentionShape shape = shape_of(q, k, options);
  Tensor dq = Tensor::empty(q.shape(), q.options());
  Tensor dk = Tensor::empty(k.shape(), k.options());
  Tensor dv = Tensor::empty(v.shape(), v.options());
  Tensor delta = Tensor::empty(log_sum.shape(), q.options());
  Tensor workspace = workspace_for(q, kernels::cpu::attention_backward_workspace(shape));
  STILLPOINT_DISPATCH(attention_backward, q, ([&]<class T>() {
                        return kernels::AttentionBackwardArgs<T>{
                            .q = q.data<T>(),
                            .k = k.data<T>(),
                            .v = v.data<T>(),
                            .key_mask = mask_of(options),
                            .out = out.data<T>(),
                            .log_sum = log_sum.data<T>(),
                            .g = g.data<T>(),
                            .dq = dq.mutable_data<T>(),
                            .dk = dk.mutable_data<T>(),
                            .dv = dv.mutable_data<T>(),
                            .delta = delta.mutable_data<T>(),
                            .workspace = workspace.mutable_data<T>(),
                            .shape = shape};
                      }));
  const auto once = [&](const Tensor& d) {
    return record_undifferentiable("attention_backward", {g, q, k, v}, d);
  };
  return {once(dq), once(dk), once(dv)};
}

}  // namespace

Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v,
                 const AttentionOptions& options) {
  check_inputs(q, k, v, options);
  const kernels::AttentionShape shape = shape_of(q, k, options);
  Tensor out = Tensor::empty(q.shape(), q.options());
  Tensor log_sum = Tensor::empty({shape.batch, shape.heads, shape.queries}, q.options());
  Tensor workspace = workspace_for(q, kernels::cpu::attention_workspace(shape));
  STILLPOINT_DISPATCH(attention, q, ([&]<class T>() {
                        return kernels::AttentionArgs<T>{.q = q.data<T>(),
                                                         .k = k.data<T>(),
                                                         .v = v.data<T>(),
                                                         .key_mask = mask_of(options),
                                                         .out = out.mutable_data<T>(),
                                                         .log_sum = log_sum.mutable_data<T>(),
                                                         .workspace = workspace.mutable_data<T>(),
                                                         .shape = shape};
                      }));
  return record("attention", {q, k, v}, out,
                [q, k, v, log_sum, options](const Tensor& g, const Tensor& y) {
                  return attention_backward(g, y, q, k, v, log_sum, options);
                });
}

}  // namespace stillpoint::ops
