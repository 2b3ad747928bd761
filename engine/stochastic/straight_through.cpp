#include "engine/stochastic/straight_through.h"

#include <vector>

#include "engine/ops.h"

namespace stillpoint::stochastic {

Tensor draw_counts(const Tensor& neighbours, int64_t keys) {
  check_dtype(neighbours, DType::i32, "draw_counts", "neighbours");
  check<ShapeError>(neighbours.rank() == 3,
                    "draw_counts: neighbours have shape {}, wanted [runs, nodes, k]",
                    neighbours.shape());
  const int64_t k = neighbours.dim(2), rows = neighbours.dim(0) * neighbours.dim(1);
  const std::vector<int32_t> lists = neighbours.to_vector<int32_t>();
  std::vector<float> counts(static_cast<size_t>(rows * keys));
  for (int64_t e = 0; e < rows * k; ++e) {
    const int32_t j = lists[static_cast<size_t>(e)];
    check<OptionError>(j < keys, "draw_counts: neighbour {}, wanted below {}", j, keys);
    if (j >= 0) counts[static_cast<size_t>(e / k * keys + j)] += 1;
  }
  return Tensor::from(counts, {neighbours.dim(0), neighbours.dim(1), keys}).to(neighbours.device());
}

Tensor expected_counts(const Tensor& scores, int64_t count) {
  return ops::affine(ops::softmax(scores), static_cast<double>(count));
}

Tensor straight_through(const Tensor& drawn, const Tensor& soft) {
  check_shape(drawn, soft.shape(), "straight_through", "drawn");
  return ops::add(ops::sub(drawn.detach(), soft.detach()), soft);
}

GumbelDraws gumbel_topk(const Tensor& scores, int64_t count, double temperature, Philox& random) {
  check_dtype(scores, DType::f32, "gumbel_topk", "scores");
  check<ShapeError>(scores.rank() == 3,
                    "gumbel_topk: scores have shape {}, wanted [runs, nodes, keys]",
                    scores.shape());
  check<OptionError>(temperature > 0, "gumbel_topk: temperature {}, wanted above 0", temperature);
  constexpr double kEdge = 1.0 / (1 << 24);  // keeps both logarithms finite
  const Tensor uniform =
      ops::uniform(scores.shape(), random, kEdge, 1 - kEdge, scores.detach().options());
  const Tensor exponential = ops::affine(ops::log(uniform), -1);
  const Tensor noisy = ops::sub(scores, ops::log(exponential));
  const Tensor neighbours = ops::topk(noisy.detach(), count).indices;
  const Tensor soft = expected_counts(ops::affine(noisy, 1 / temperature), count);
  return {neighbours, straight_through(draw_counts(neighbours, scores.dim(2)), soft)};
}

}  // namespace stillpoint::stochastic
