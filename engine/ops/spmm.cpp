#include "kernels/spmm/spmm.h"

#include <limits>
#include <vector>

#include "engine/dispatch.h"
#include "engine/ops.h"
#include "kernels/spmm/spmm_reference.h"

namespace stillpoint::ops {
namespace {

#if defined(STILLPOINT_HAVE_CUDA)
void run_library(const kernels::SpmmArgs<float>& args) {
  int64_t bytes = 0;
  cuda::check_status(kernels::cuda::spmm_library_workspace(args, cuda::cusparse_handle(), &bytes),
                     "spmm");
  const Block workspace = allocate(bytes, Device::cuda);
  cuda::check_status(
      kernels::cuda::spmm_library(args, cuda::cusparse_handle(), workspace.get(), cuda::stream()),
      "spmm");
}
#else
void run_library(const kernels::SpmmArgs<float>&) { cuda::check_status({}, "spmm"); }
#endif

// What the gradients of a and of b need of each other: kept only if that gradient is wanted.
std::vector<Tensor> crosswise(const Tensor& a, const Tensor& b) {
  return {a.requires_grad() ? b : Tensor(), b.requires_grad() ? a : Tensor()};
}

Tensor sampled(const Tensor& g, const Tensor& x, const Graph& graph, SpmmBackend backend);

// A x, or A^T x, where A has `values` at the entries of `graph`. Its gradients are the same two
// functions again: (d values, dx) = (sampled(g, x), A^T g).
Tensor product(const Tensor& values, const Tensor& x, const Graph& graph, Transpose transpose,
               SpmmBackend backend) {
  const bool plain = transpose == Transpose::no;
  const Graph pattern = plain ? graph : graph.transposed();
  Tensor out = Tensor::empty({x.dim(0), pattern.rows(), x.dim(2)}, x.options());
  const auto make_args = [&]<class T>() {
    return kernels::SpmmArgs<T>{.values = values.data<T>(),
                                .order = plain ? nullptr : graph.transposed_order().data<int32_t>(),
                                .x = x.data<T>(),
                                .out = out.mutable_data<T>(),
                                .pattern = pattern.view(),
                                .batch = x.dim(0),
                                .channels = x.dim(2)};
  };
  if (backend == SpmmBackend::library) {
    detail::backend_of(x);  // counts the kernel
    run_library(make_args.operator()<float>());
  } else {
    STILLPOINT_DISPATCH(spmm, x, make_args);
  }
  const std::vector<Tensor> kept = crosswise(values, x);
  return record("spmm", {values, x}, out,
                [graph, backend, plain, for_values = kept[0], for_x = kept[1]](const Tensor& g) {
                  const Transpose flipped = plain ? Transpose::yes : Transpose::no;
                  Gradients d(2);
                  if (for_values)
                    d[0] = plain ? sampled(g, for_values, graph, backend)
                                 : sampled(for_values, g, graph, backend);
                  if (for_x) d[1] = product(for_x, g, graph, flipped, backend);
                  return d;
                });
}

// [entries]: for every entry of `graph`, the product of its row of g and its row of x over all
// samples and channels.
Tensor sampled(const Tensor& g, const Tensor& x, const Graph& graph, SpmmBackend backend) {
  Tensor out = Tensor::empty({graph.entries()}, x.options());
  STILLPOINT_DISPATCH(spmm_values, x, ([&]<class T>() {
                        return kernels::SpmmValuesArgs<T>{.g = g.data<T>(),
                                                          .x = x.data<T>(),
                                                          .out = out.mutable_data<T>(),
                                                          .pattern = graph.view(),
                                                          .batch = x.dim(0),
                                                          .channels = x.dim(2)};
                      }));
  const std::vector<Tensor> kept = crosswise(g, x);
  return record("spmm_values", {g, x}, out,
                [graph, backend, for_g = kept[0], for_x = kept[1]](const Tensor& u) {
                  Gradients d(2);
                  if (for_g) d[0] = product(u, for_g, graph, Transpose::no, backend);
                  if (for_x) d[1] = product(u, for_x, graph, Transpose::yes, backend);
                  return d;
                });
}

}  // namespace

Tensor spmm(const Tensor& values, const Tensor& x, const Graph& graph, SpmmBackend backend) {
  check_floating(x, "spmm", "x");
  check<ShapeError>(x.rank() == 3 && x.dim(1) == graph.cols(),
                    "spmm: x has shape {}, wanted [batch, {}, channels] for a graph of {} columns",
                    x.shape(), graph.cols(), graph.cols());
  check<TypeError>(graph.device() == x.device(), "spmm: the graph is on {}, x is on {}",
                   name(graph.device()), name(x.device()));
  if (backend == SpmmBackend::library) {
    check<TypeError>(x.device() == Device::cuda,
                     "spmm: the library is cuSPARSE and takes tensors on cuda, x is on {}",
                     name(x.device()));
    check<ShapeError>(x.dim(0) <= std::numeric_limits<int>::max(),
                      "spmm: cuSPARSE takes up to {} samples, x has {}",
                      std::numeric_limits<int>::max(), x.dim(0));
  }
  if (values) {
    check_like(values, x, "spmm", "values");
    check_shape(values, {graph.entries()}, "spmm", "values");
    return product(values, x, graph, Transpose::no, backend);
  }
  if (backend == SpmmBackend::own) return factor_sum(x, graph);  // the same sums, without factors
  return product(Tensor::full({graph.entries()}, 1, x.options()), x, graph, Transpose::no, backend);
}

}  // namespace stillpoint::ops
