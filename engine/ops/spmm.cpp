#include "kernels/spmm/spmm.h"

#include <limits>

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
  return record("spmm", {values, x}, out, [=](const Tensor& g) {
    const Transpose flipped = plain ? Transpose::yes : Transpose::no;
    Gradients d(2);
    if (values.requires_grad())
      d[0] = plain ? sampled(g, x, graph, backend) : sampled(x, g, graph, backend);
    if (x.requires_grad()) d[1] = product(values, g, graph, flipped, backend);
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
  return record("spmm_values", {g, x}, out, [=](const Tensor& u) {
    Gradients d(2);
    if (g.requires_grad()) d[0] = product(u, x, graph, Transpose::no, backend);
    if (x.requires_grad()) d[1] = product(u, g, graph, Transpose::yes, backend);
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
