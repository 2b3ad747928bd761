// Every rung of kernels/refine/ladder against the reference.
#include "kernels/refine/ladder/ladder.h"

#include "kernels/refine/refine_reference.h"
#include "tests/support/graphs.h"
#include "tests/support/op_test.h"

namespace stillpoint::test {
namespace {

// One problem with its outputs, in one dtype on the CPU.
template <class T>
struct Problem {
  Graph graph;
  kernels::RefineSize size;
  std::vector<Tensor> inputs;
  Tensor g, out, saved, dh, dx, dweights, workspace;

  Problem(const Graph& pattern, int64_t batch, int64_t channels, int64_t steps)
      : graph(pattern), size{steps, batch, pattern.rows(), channels, kernels::kRefineCpuChunks} {
    const int64_t n = graph.rows(), c = channels;
    uint64_t seed = 0;
    const auto make = [&](Shape shape, double scale = 1) {
      return random_tensor(std::move(shape), ++seed, scale).to(DType::f32).to(dtype_of<T>);
    };
    for (const Shape& shape : {Shape{batch, n, c}, Shape{batch, n, 3 * c}, Shape{c}, Shape{3 * c}})
      inputs.push_back(make(shape));
    for (const Shape& shape : {Shape{c, c}, Shape{c, c}, Shape{3 * c, c}, Shape{3 * c, c}})
      inputs.push_back(make(shape, 0.3));
    g = make({steps, batch, n, c});
    const auto filled = [](Shape shape) {
      return Tensor::full(std::move(shape), 7, {dtype_of<T>});  // what was there must not matter
    };
    out = filled(g.shape());
    saved = filled({kernels::refine_saved(size)});
    dh = filled({batch, n, c});
    dx = filled({batch, n, 3 * c});
    dweights = filled({kernels::refine_parameters(c)});
    workspace = filled({kernels::refine_ladder_workspace(size)});
  }
  kernels::RefineWeights<T> weights() const {
    return {.receiver = inputs[4].data<T>(),
            .receiver_bias = inputs[2].data<T>(),
            .sender = inputs[5].data<T>(),
            .message = inputs[6].data<T>(),
            .state = inputs[7].data<T>(),
            .state_bias = inputs[3].data<T>()};
  }
  kernels::RefineArgs<T> forward(kernels::RefineStates states) {
    return {.h = inputs[0].data<T>(),
            .x = inputs[1].data<T>(),
            .weights = weights(),
            .out = out.mutable_data<T>(),
            .saved = saved.mutable_data<T>(),
            .workspace = workspace.mutable_data<T>(),
            .pattern = graph.view(),
            .size = size,
            .states = states};
  }
  kernels::RefineBackwardArgs<T> backward() {
    return {.h = inputs[0].data<T>(),
            .x = inputs[1].data<T>(),
            .weights = weights(),
            .out = out.data<T>(),
            .saved = saved.data<T>(),
            .g = g.data<T>(),
            .dh = dh.mutable_data<T>(),
            .dx = dx.mutable_data<T>(),
            .dweights = dweights.mutable_data<T>(),
            .workspace = workspace.mutable_data<T>(),
            .pattern = graph.view(),
            .transposed = graph.transposed_view(),
            .size = size};
  }
};

TEST(RefineLadder, Cpu) {
  struct Case {
    int64_t batch, channels, steps;
  };
  for (const NamedGraph& named : {awkward_graphs()[6], awkward_graphs()[7]})
    for (const Case c : {Case{2, 9, 3}, Case{35, 4, 2}, Case{1, 16, 1}})
      for (const kernels::RefineRung& rung : kernels::kRefineCpuLadder) {
        SCOPED_TRACE(std::string(rung.name) + " on " + named.name);
        Problem<double> wanted(named.graph, c.batch, c.channels, c.steps);
        Problem<float> got(named.graph, c.batch, c.channels, c.steps);
        const double terms = static_cast<double>(c.batch * named.graph.rows() * c.steps);
        kernels::reference::refine(wanted.forward(kernels::RefineStates::all));
        kernels::reference::refine_backward(wanted.backward());
        rung.forward(got.forward(kernels::RefineStates::all));
        rung.backward(got.backward());
        expect_close(got.out, wanted.out, 8, terms, "out");
        expect_close(got.dh, wanted.dh, 8, terms, "dh");
        expect_close(got.dx, wanted.dx, 8, terms, "dx");
        expect_close(got.dweights, wanted.dweights, 8, terms, "dweights");
        rung.forward(got.forward(kernels::RefineStates::last));
        const int64_t states = got.dh.numel();
        expect_close(got.out.alias(got.dh.shape(), 0),
                     wanted.out.alias(got.dh.shape(), (c.steps - 1) * states), 8, terms, "last");
      }
}

}  // namespace
}  // namespace stillpoint::test
