#include "kernels/message_sum/message_sum.h"

#include "engine/dispatch.h"
#include "engine/ops.h"
#include "kernels/message_sum/message_sum_reference.h"

namespace stillpoint::ops {
namespace {

void check_inputs(const Tensor& a, const Tensor& c, const Graph& graph) {
  check_floating(a, "message_sum", "a");
  check_like(c, a, "message_sum", "c");
  check<ShapeError>(
      a.rank() == 3 && a.dim(1) == graph.rows(),
      "message_sum: a has shape {}, wanted [batch, {}, channels] for a graph of {} rows", a.shape(),
      graph.rows(), graph.rows());
  check_shape(c, {a.dim(0), graph.cols(), a.dim(2)}, "message_sum", "c");
  check<TypeError>(graph.device() == a.device(),
                   "message_sum: the graph is on {}, its inputs are on {}", name(graph.device()),
                   name(a.device()));
}

std::vector<Tensor> message_sum_backward(const Tensor& g, const Tensor& a, const Tensor& c,
                                         const Graph& graph);

// The derivative of message_sum along (ta, tc).
Tensor message_sum_tangent(const Tensor& ta, const Tensor& tc, const Tensor& a, const Tensor& c,
                           const Graph& graph) {
  Tensor out = Tensor::empty(a.shape(), a.options());
  STILLPOINT_DISPATCH(message_sum_tangent, a, ([&]<class T>() {
                        return kernels::MessageSumTangentArgs<T>{.a = a.data<T>(),
                                                                 .c = c.data<T>(),
                                                                 .ta = ta.data<T>(),
                                                                 .tc = tc.data<T>(),
                                                                 .out = out.mutable_data<T>(),
                                                                 .pattern = graph.view(),
                                                                 .batch = a.dim(0),
                                                                 .channels = a.dim(2)};
                      }));
  return record("message_sum_tangent", {ta, tc}, out,
                [a, c, graph](const Tensor& g) { return message_sum_backward(g, a, c, graph); });
}

// {da, dc}. Linear in g and piecewise constant in a and c, so only g has a gradient.
std::vector<Tensor> message_sum_backward(const Tensor& g, const Tensor& a, const Tensor& c,
                                         const Graph& graph) {
  Tensor da = Tensor::empty(a.shape(), a.options());
  Tensor dc = Tensor::empty(c.shape(), c.options());
  STILLPOINT_DISPATCH(message_sum_backward, a, ([&]<class T>() {
                        return kernels::MessageSumBackwardArgs<T>{
                            .a = a.data<T>(),
                            .c = c.data<T>(),
                            .g = g.data<T>(),
                            .da = da.mutable_data<T>(),
                            .dc = dc.mutable_data<T>(),
                            .pattern = graph.view(),
                            .transposed = graph.transposed_view(),
                            .batch = a.dim(0),
                            .channels = a.dim(2)};
                      }));
  return record_many("message_sum_backward", {g}, {da, dc},
                     [a, c, graph](std::span<const Tensor> u) -> Gradients {
                       const Tensor ta = u[0] ? u[0] : Tensor::zeros(a.shape(), a.options());
                       const Tensor tc = u[1] ? u[1] : Tensor::zeros(c.shape(), c.options());
                       return {message_sum_tangent(ta, tc, a, c, graph)};
                     });
}

}  // namespace

Tensor message_sum(const Tensor& a, const Tensor& c, const Graph& graph) {
  check_inputs(a, c, graph);
  Tensor out = Tensor::empty(a.shape(), a.options());
  STILLPOINT_DISPATCH(message_sum, a, ([&]<class T>() {
                        return kernels::MessageSumArgs<T>{.a = a.data<T>(),
                                                          .c = c.data<T>(),
                                                          .out = out.mutable_data<T>(),
                                                          .pattern = graph.view(),
                                                          .batch = a.dim(0),
                                                          .channels = a.dim(2)};
                      }));
  return record("message_sum", {a, c}, out,
                [a = a.detach(), c = c.detach(), graph](const Tensor& g) -> Gradients {
                  return message_sum_backward(g, a, c, graph);
                });
}

}  // namespace stillpoint::ops
