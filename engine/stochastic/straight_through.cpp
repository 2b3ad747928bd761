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

Tensor straight_through(const Tensor& drawn, const Tensor& expected) {
  check_shape(drawn, expected.shape(), "straight_through", "drawn");
  return ops::add(ops::sub(drawn.detach(), expected.detach()), expected);
}

}  // namespace stillpoint::stochastic
