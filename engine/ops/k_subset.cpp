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

constexpr int64_t kMostDraws = int64_t{1} << 20;

Tensor workspace_for(const Tensor& scores, const kernels::KSubsetShape& shape) {
  int64_t size = scores.dtype() == DType::f64 ? kernels::reference::k_subset_workspace(shape)
                                              : kernels::cpu::k_subset_workspace(shape);
#if defined(STILLPOINT_HAVE_CUDA)
  if (scores.device() == Device::cuda) size = kernels::cuda::k_subset_workspace(shape);
#endif
  return Tensor::empty({size}, scores.options());
}

// Sample by sample: [B, N, K] and [B, K, M] (after transposing) -> [B, N, M].
Tensor products(const Tensor& a, const Tensor& b, ops::Transpose ta, ops::Transpose tb) {
  const auto of = [](const Tensor& x, int64_t at) {
    return ops::reshape(ops::rows(x, at, 1), {x.dim(1), x.dim(2)});
  };
  const int64_t batch = a.dim(0), rows = a.dim(ta == ops::Transpose::yes ? 2 : 1),
                columns = b.dim(tb == ops::Transpose::yes ? 1 : 2);
  if (batch * rows * columns == 0) return Tensor::empty({batch, rows, columns}, a.options());
  std::vector<Tensor> parts;
  for (int64_t at = 0; at < batch; ++at)
    parts.push_back(ops::reshape(ops::matmul(of(a, at), of(b, at), ta, tb), {1, rows * columns}));
  return ops::reshape(ops::concat(parts), {batch, rows, columns});
}

}  // namespace

Tensor attention_scores(const Tensor& q, const Tensor& k) {
  using enum ops::Transpose;
  check_sample_inputs(q, k, 1, {});
  Tensor scores;
  {
    const NoGrad no_grad;
    scores = products(q, k, no, yes);
  }
  // By hand: each sample's rows would hand a gradient of the whole batch's size back.
  return record("attention_scores", {q, k}, scores, [q, k](const Tensor& g) {
    Tensor dq, dk;
    {
      const NoGrad no_grad;
      dq = products(g, k, no, no);
      dk = products(g, q, yes, no);
    }
    return Gradients{record_undifferentiable("attention_scores_backward", {g, q, k}, dq),
                     record_undifferentiable("attention_scores_backward", {g, q, k}, dk)};
  });
}

Sample<KSubset> sample(const Tensor& scores, KSubset law, Philox& random,
                       const SampleOptions& options) {
  check_floating(scores, "sample", "scores");
  check<ShapeError>(scores.rank() == 3,
                    "sample: scores have shape {}, wanted [batch, queries, keys]", scores.shape());
  check_sample_options(scores, scores.dim(0), scores.dim(2), law.count, options);
  check<OptionError>(law.draws >= 1 && law.draws <= kMostDraws, "sample: {} draws; wanted 1 to {}",
                     law.draws, kMostDraws);
  const Tensor cooled =
      options.temperature == 1 ? scores : ops::affine(scores, 1 / options.temperature);
  kernels::KSubsetShape shape{.batch = scores.dim(0),
                              .queries = scores.dim(1),
                              .keys = scores.dim(2),
                              .count = law.count,
                              .seed = random.seed(),
                              .stream = random.stream(),
                              .first_block = 0,
                              .draws = law.draws};
  shape.first_block = random.reserve(
      static_cast<uint64_t>(shape.rows() * shape.draws * kernels::k_subset_blocks(shape.keys)));
  const Shape rows{shape.batch * shape.draws, shape.queries};
  Sample<KSubset> out(
      Tensor::empty({rows[0], shape.queries, law.count}, {DType::i32, scores.device()}),
      Tensor::empty(rows, scores.options()), Tensor::empty(rows, scores.options()));
  Tensor slope =
      Tensor::empty({shape.batch, shape.draws, shape.queries, shape.keys}, scores.options());
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
    const Tensor of_draws = ops::reshape(g, {slope.dim(0), slope.dim(1), slope.dim(2), 1});
    return Gradients{record_undifferentiable("k_subset_backward", {g, cooled},
                                             ops::sum(ops::mul(slope, of_draws), 1))};
  });
  return out;
}

Sample<KSubset> sample(const Tensor& q, const Tensor& k, KSubset law, Philox& random,
                       const SampleOptions& options) {
  check_sample_inputs(q, k, law.count, options);
  SampleOptions scaled = options;
  scaled.temperature *= std::sqrt(static_cast<double>(q.dim(2)));
  return sample(attention_scores(q, k), law, random, scaled);
}

Tensor score(const Sample<KSubset>& sample) { return sample.log_prob; }

}  // namespace stillpoint
