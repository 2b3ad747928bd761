#include "kernels/set_score/set_score.h"

#include "engine/dispatch.h"
#include "engine/ops.h"
#include "engine/sampling.h"
#include "kernels/set_score/set_score_reference.h"

namespace stillpoint {
namespace {

Gradients set_score_backward(const Tensor& g, const Tensor& log_prob) {
  Tensor d = Tensor::empty(log_prob.shape(), log_prob.options());
  STILLPOINT_DISPATCH(set_score_backward, log_prob, ([&]<class T>() {
                        return kernels::SetScoreBackwardArgs<T>{.log_prob = log_prob.data<T>(),
                                                                .g = g.data<T>(),
                                                                .d = d.mutable_data<T>(),
                                                                .rows = rows_of(log_prob),
                                                                .count = log_prob.dim(-1)};
                      }));
  return {record_undifferentiable("set_score_backward", {g, log_prob}, d)};
}

}  // namespace

Tensor set_score(const Sample<PlackettLuce>& sample) {
  const Tensor& log_prob = sample.log_prob;
  check_floating(log_prob, "set_score", "log_prob");
  check<ShapeError>(log_prob.rank() >= 1 && log_prob.dim(-1) <= kernels::kSetCount,
                    "set_score: log_prob has shape {}, wanted [..., count] with {} picks at most",
                    log_prob.shape(), kernels::kSetCount);
  Shape shape = log_prob.shape();
  shape.pop_back();
  Tensor out = Tensor::empty(shape, log_prob.options());
  STILLPOINT_DISPATCH(set_score, log_prob, ([&]<class T>() {
                        return kernels::SetScoreArgs<T>{.log_prob = log_prob.data<T>(),
                                                        .out = out.mutable_data<T>(),
                                                        .rows = rows_of(log_prob),
                                                        .count = log_prob.dim(-1)};
                      }));
  return record("set_score", {log_prob}, out,
                [log_prob](const Tensor& g) { return set_score_backward(g, log_prob); });
}

}  // namespace stillpoint
