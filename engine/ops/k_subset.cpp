#include "kernels/k_subset/k_subset.h"

#include <cmath>
#include <vector>

#include "engine/dispatch.h"
#include "engine/ops.h"
#include "engine/ops/sample_inputs.h"
#include "engine/sampling.h"
#include "kernels/k_subset/k_subset_reference.h"

namespace stillpoint {
namespace {

Tensor workspace_for(const Tensor& scores, const kernels::KSubsetShape& shape) {
  int64_t size = scores.dtype() == DType::f64 ? kernels::reference::k_subset_workspace(shape)
                                              : kernels::cpu::k_subset_workspace(shape);
#if defined(STILLPOINT_HAVE_CUDA)
  if (scores.device() == Device::cuda) size = kernels::cuda::k_subset_workspace(shape);
#endif
  return Tensor::empty({size}, scores.options());
}

// q k^T, sample by sample: [B, N, width], [B, M, width] -> [B, N, M].
Tensor products(const Tensor& q, const Tensor& k) {
  const int64_t batch = q.dim(0), queries = q.dim(1), keys = k.dim(1), width = q.dim(2);
  if (batch * queries == 0) return Tensor::empty({batch, queries, keys}, q.options());
  std::vector<Tensor> parts;
  for (int64_t b = 0; b < batch; ++b) {
    const Tensor of_queries = ops::reshape(ops::rows(q, b, 1), {queries, width});
    const Tensor of_keys = ops::reshape(ops::rows(k, b, 1), {keys, width});
    const Tensor part = ops::matmul(of_queries, of_keys, ops::Transpose::no, ops::Transpose::yes);
    parts.push_back(ops::reshape(part, {1, queries * keys}));
  }
  return ops::reshape(ops::concat(parts), {batch, queries, keys});
}

}  // namespace

Sample<KSubset> sample(const Tensor& scores, KSubset law, Philox& random,
                       const SampleOptions& options) {
  check_floating(scores, "sample", "scores");
  check<ShapeError>(scores.rank() == 3,
                    "sample: scores have shape {}, wanted [batch, queries, keys]", scores.shape());
  check_sample_options(scores, scores.dim(0), scores.dim(2), law.count, options);
  const Tensor cooled =
      options.temperature == 1 ? scores : ops::affine(scores, 1 / options.temperature);
  kernels::KSubsetShape shape{.batch = scores.dim(0),
                              .queries = scores.dim(1),
                              .keys = scores.dim(2),
                              .count = law.count,
                              .seed = random.seed(),
                              .stream = random.stream(),
                              .first_block = 0};
  shape.first_block =
      random.reserve(static_cast<uint64_t>(shape.rows() * kernels::k_subset_blocks(shape.keys)));
  const Shape rows{shape.batch, shape.queries};
  Sample<KSubset> out{.indices = Tensor::empty({shape.batch, shape.queries, law.count},
                                               {DType::i32, scores.device()}),
                      .log_prob = Tensor::empty(rows, scores.options()),
                      .log_normaliser = Tensor::empty(rows, scores.options())};
  Tensor slope = Tensor::empty(scores.shape(), scores.options());
  Tensor workspace = workspace_for(scores, shape);
  STILLPOINT_DISPATCH(k_subset, cooled, ([&]<class T>() {
                        return kernels::KSubsetArgs<T>{
                            .scores = cooled.data<T>(),
                            .key_mask = key_mask_of(options),
                            .indices = out.indices.mutable_data<int32_t>(),
                            .log_prob = out.log_prob.mutable_data<T>(),
                            .log_normaliser = out.log_normaliser.mutable_data<T>(),
                            .slope = slope.mutable_data<T>(),
                            .workspace = workspace.mutable_data<T>(),
                            .shape = shape};
                      }));
  out.log_prob = record("k_subset", {cooled}, out.log_prob, [cooled, slope](const Tensor& g) {
    const NoGrad no_grad;
    const Tensor of_rows = ops::reshape(g, {g.dim(0), g.dim(1), 1});
    return Gradients{
        record_undifferentiable("k_subset_backward", {g, cooled}, ops::mul(slope, of_rows))};
  });
  return out;
}

Sample<KSubset> sample(const Tensor& q, const Tensor& k, KSubset law, Philox& random,
                       const SampleOptions& options) {
  check_sample_inputs(q, k, law.count, options);
  SampleOptions scaled = options;
  scaled.temperature *= std::sqrt(static_cast<double>(q.dim(2)));
  return sample(products(q, k), law, random, scaled);
}

Tensor score(const Sample<KSubset>& sample) { return sample.log_prob; }

}  // namespace stillpoint
