#include "kernels/graph_attention/graph_attention.h"

#include <cmath>

#include "engine/dispatch.h"
#include "engine/ops.h"
#include "kernels/graph_attention/graph_attention_reference.h"

namespace stillpoint::ops {
namespace {

void check_inputs(const Tensor& q, const Tensor& k, const Tensor& v, const Graph& graph,
                  int64_t heads) {
  check_floating(q, "graph_attention", "q");
  check_like(k, q, "graph_attention", "k");
  check_like(v, q, "graph_attention", "v");
  check<ShapeError>(q.rank() == 3 && q.dim(1) == graph.rows(),
                    "graph_attention: q has shape {}, wanted [batch, {}, channels] for a graph of "
                    "{} rows",
                    q.shape(), graph.rows(), graph.rows());
  check_shape(k, {q.dim(0), graph.cols(), q.dim(2)}, "graph_attention", "k");
  check_shape(v, k.shape(), "graph_attention", "v");
  check<OptionError>(heads > 0 && q.dim(2) % heads == 0 && q.dim(2) > 0,
                     "graph_attention: {} heads share {} channels, wanted a divisor", heads,
                     q.dim(2));
  check<ShapeError>(q.dim(2) / heads <= kernels::kGraphAttentionWidth,
                    "graph_attention: heads are {} channels wide, wanted {} at most",
                    q.dim(2) / heads, kernels::kGraphAttentionWidth);
  check<TypeError>(graph.device() == q.device(),
                   "graph_attention: the graph is on {}, its inputs are on {}",
                   name(graph.device()), name(q.device()));
}

kernels::GraphAttentionShape shape_of(const Tensor& q, int64_t heads) {
  const int64_t width = q.dim(2) / heads;
  return {.batch = q.dim(0),
          .heads = heads,
          .width = width,
          .scale = 1 / std::sqrt(static_cast<double>(width))};
}

Gradients graph_attention_backward(const Tensor& g, const Tensor& out, const Tensor& q,
                                   const Tensor& k, const Tensor& v, const Tensor& log_sum,
                                   const Graph& graph, int64_t heads) {
  Tensor dq = Tensor::empty(q.shape(), q.options());
  Tensor dk = Tensor::empty(k.shape(), k.options());
  Tensor dv = Tensor::empty(v.shape(), v.options());
  Tensor delta = Tensor::empty(log_sum.shape(), q.options());
  STILLPOINT_DISPATCH(graph_attention_backward, q, ([&]<class T>() {
                        return kernels::GraphAttentionBackwardArgs<T>{
                            .q = q.data<T>(),
                            .k = k.data<T>(),
                            .v = v.data<T>(),
                            .out = out.data<T>(),
                            .log_sum = log_sum.data<T>(),
                            .g = g.data<T>(),
                            .dq = dq.mutable_data<T>(),
                            .dk = dk.mutable_data<T>(),
                            .dv = dv.mutable_data<T>(),
                            .delta = delta.mutable_data<T>(),
                            .pattern = graph.view(),
                            .transposed = graph.transposed_view(),
                            .shape = shape_of(q, heads)};
                      }));
  const auto once = [&](const Tensor& d) {
    return record_undifferentiable("graph_attention_backward", {g, q, k, v}, d);
  };
  return {once(dq), once(dk), once(dv)};
}

}  // namespace

Tensor graph_attention(const Tensor& q, const Tensor& k, const Tensor& v, const Graph& graph,
                       int64_t heads) {
  check_inputs(q, k, v, graph, heads);
  Tensor out = Tensor::empty(q.shape(), q.options());
  Tensor log_sum = Tensor::empty({q.dim(0), q.dim(1), heads}, q.options());
  STILLPOINT_DISPATCH(graph_attention, q, ([&]<class T>() {
                        return kernels::GraphAttentionArgs<T>{.q = q.data<T>(),
                                                              .k = k.data<T>(),
                                                              .v = v.data<T>(),
                                                              .out = out.mutable_data<T>(),
                                                              .log_sum = log_sum.mutable_data<T>(),
                                                              .pattern = graph.view(),
                                                              .shape = shape_of(q, heads)};
                      }));
  return record("graph_attention", {q, k, v}, out,
                [q, k, v, log_sum, graph, heads](const Tensor& g, const Tensor& y) {
                  return graph_attention_backward(g, y, q, k, v, log_sum, graph, heads);
                });
}

}  // namespace stillpoint::ops
