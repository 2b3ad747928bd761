#include "kernels/attention_topk_sample/attention_topk_sample.h"

#include <cmath>
#include <utility>

#include "engine/dispatch.h"
#include "engine/ops.h"
#include "engine/ops/sample_inputs.h"
#include "engine/sampling.h"
#include "kernels/attention_topk_sample/attention_topk_sample_reference.h"

namespace stillpoint {
namespace {

using kernels::SampleLaw;

// Scratch of the CPU's kernels and of the reference.
Tensor workspace_for(const Tensor& q, const kernels::SampleShape& shape, int64_t cpu_elements) {
  int64_t elements = 0;
  if (q.device() == Device::cpu)
    elements = q.dtype() == DType::f32 ? cpu_elements
                                       : kernels::reference::attention_topk_sample_workspace(shape);
  return Tensor::empty({elements}, q.options());
}

// What the forward leaves for the backward besides q and k.
struct Saved {
  Tensor indices, scores, log_remaining, log_rest;
};

Gradients sample_backward(const Tensor& g, const Tensor& q, const Tensor& k, const Saved& saved,
                          const SampleOptions& options, const kernels::SampleShape& shape) {
  Tensor dq = Tensor::empty(q.shape(), q.options());
  Tensor dk = Tensor::empty(k.shape(), k.options());
  Tensor drawn = Tensor::empty(saved.scores.shape(), q.options());
  Tensor rest = Tensor::empty(saved.log_rest.shape(), q.options());
  Tensor workspace =
      workspace_for(q, shape, kernels::cpu::attention_topk_sample_backward_workspace(shape));
  STILLPOINT_DISPATCH(attention_topk_sample_backward, q, ([&]<class T>() {
                        return kernels::AttentionTopkSampleBackwardArgs<T>{
                            .q = q.data<T>(),
                            .k = k.data<T>(),
                            .key_mask = key_mask_of(options),
                            .indices = saved.indices.data<int32_t>(),
                            .scores = saved.scores.data<T>(),
                            .log_remaining = saved.log_remaining.data<T>(),
                            .log_rest = saved.log_rest.data<T>(),
                            .g = g.data<T>(),
                            .dq = dq.mutable_data<T>(),
                            .dk = dk.mutable_data<T>(),
                            .drawn = drawn.mutable_data<T>(),
                            .rest = rest.mutable_data<T>(),
                            .workspace = workspace.mutable_data<T>(),
                            .shape = shape};
                      }));
  const auto once = [&](const Tensor& d) {
    return record_undifferentiable("attention_topk_sample_backward", {g, q, k}, d);
  };
  return {once(dq), once(dk)};
}

// A sample whose law is not yet part of its type.
struct Drawn {
  Tensor indices, log_prob, log_normaliser;

  template <class Law>
  Sample<Law> as() && {
    return Sample<Law>(std::move(indices), std::move(log_prob), std::move(log_normaliser));
  }
};

Drawn draw(const Tensor& q, const Tensor& k, SampleLaw law, int64_t count,
           const SampleOptions& options, Philox* random) {
  check_sample_inputs(q, k, count, options);
  const double scale = 1 / (std::sqrt(static_cast<double>(q.dim(2))) * options.temperature);
  kernels::SampleShape shape{.batch = q.dim(0),
                             .queries = q.dim(1),
                             .keys = k.dim(1),
                             .width = q.dim(2),
                             .count = count,
                             .law = law,
                             .scale = scale,
                             .seed = 0,
                             .stream = 0,
                             .first_block = 0};
  if (random != nullptr) {
    const int64_t blocks = law == SampleLaw::plackett_luce
                               ? kernels::plackett_luce_blocks(shape.keys)
                               : kernels::with_replacement_blocks(count);
    shape.seed = random->seed();
    shape.stream = random->stream();
    shape.first_block =
        random->reserve(static_cast<uint64_t>(shape.batch * shape.queries * blocks));
  }
  const Shape rows{shape.batch, shape.queries}, draws{shape.batch, shape.queries, count};
  Drawn out{.indices = Tensor::empty(draws, {DType::i32, q.device()}),
            .log_prob = Tensor::empty(draws, q.options()),
            .log_normaliser = Tensor::empty(rows, q.options())};
  Saved saved{out.indices, Tensor::empty(draws, q.options()), Tensor::empty(draws, q.options()),
              Tensor::empty(rows, q.options())};
  Tensor workspace = workspace_for(q, shape, kernels::cpu::attention_topk_sample_workspace(shape));
  STILLPOINT_DISPATCH(attention_topk_sample, q, ([&]<class T>() {
                        return kernels::AttentionTopkSampleArgs<T>{
                            .q = q.data<T>(),
                            .k = k.data<T>(),
                            .key_mask = key_mask_of(options),
                            .indices = out.indices.mutable_data<int32_t>(),
                            .log_prob = out.log_prob.mutable_data<T>(),
                            .scores = saved.scores.mutable_data<T>(),
                            .log_remaining = saved.log_remaining.mutable_data<T>(),
                            .log_rest = saved.log_rest.mutable_data<T>(),
                            .log_sum = out.log_normaliser.mutable_data<T>(),
                            .workspace = workspace.mutable_data<T>(),
                            .shape = shape};
                      }));
  out.log_prob = record("attention_topk_sample", {q, k}, out.log_prob,
                        [q, k, saved, options, shape](const Tensor& g) {
                          return sample_backward(g, q, k, saved, options, shape);
                        });
  return out;
}

}  // namespace

Sample<TopScores> sample(const Tensor& q, const Tensor& k, TopScores law,
                         const SampleOptions& options) {
  return draw(q, k, SampleLaw::top, law.count, options, nullptr).as<TopScores>();
}

Sample<PlackettLuce> sample(const Tensor& q, const Tensor& k, PlackettLuce law, Philox& random,
                            const SampleOptions& options) {
  return draw(q, k, SampleLaw::plackett_luce, law.count, options, &random).as<PlackettLuce>();
}

Sample<WithReplacement> sample(const Tensor& q, const Tensor& k, WithReplacement law,
                               Philox& random, const SampleOptions& options) {
  return draw(q, k, SampleLaw::with_replacement, law.count, options, &random).as<WithReplacement>();
}

Tensor ordered_score(const Sample<PlackettLuce>& sample) { return ops::sum(sample.log_prob, -1); }
Tensor score(const Sample<WithReplacement>& sample) { return ops::sum(sample.log_prob, -1); }

}  // namespace stillpoint
