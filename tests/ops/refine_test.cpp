#include <gmock/gmock.h>

#include <cmath>
#include <limits>

#include "engine/autograd.h"
#include "engine/memory.h"
#include "engine/ops.h"
#include "kernels/refine/refine.h"
#include "tests/support/graphs.h"
#include "tests/support/op_test.h"

namespace stillpoint::test {
namespace {

using ops::RefineForm;
using ops::States;

Tensor apply(std::span<const Tensor> in, const Graph& graph, ops::RefineOptions options) {
  return ops::refine(in[0], in[1], graph.to(in[0].device()),
                     {.receiver = in[2],
                      .receiver_bias = in[3],
                      .sender = in[4],
                      .message = in[5],
                      .state = in[6],
                      .state_bias = in[7]},
                     options);
}

struct Size {
  int64_t batch, channels, steps;
};

// Weights as large as a trained network's: |h W| stays about 1.
std::vector<Tensor> random_inputs(const Graph& graph, Size size, uint64_t seed) {
  const int64_t c = size.channels, n = graph.rows();
  const double scale = 1.5 / std::sqrt(static_cast<double>(std::max<int64_t>(1, c)));
  const double degree =
      1 + static_cast<double>(graph.entries()) / static_cast<double>(std::max<int64_t>(1, n));
  std::vector<Tensor> inputs = {random_tensor({size.batch, n, c}, seed),
                                random_tensor({size.batch, n, 3 * c}, seed + 1),
                                random_tensor({c, c}, seed + 2, scale),
                                random_tensor({c}, seed + 3),
                                random_tensor({c, c}, seed + 4, scale),
                                random_tensor({3 * c, c}, seed + 5, 2 * scale / degree),
                                random_tensor({3 * c, c}, seed + 6, scale),
                                random_tensor({3 * c}, seed + 7)};
  for (Tensor& t : inputs) t = t.to(DType::f32).to(DType::f64);
  return inputs;
}

// The least |a + c| of any message in any step: how far the case keeps from the kink of relu.
double nearest_message(std::span<const Tensor> in, const Graph& graph, int64_t steps) {
  const Tensor states = apply(in, graph, {.steps = steps, .form = RefineForm::composed});
  double nearest = std::numeric_limits<double>::infinity();
  const auto offsets = graph.offsets().to_vector<int32_t>();
  const auto indices =
      graph.entries() == 0 ? std::vector<int32_t>() : graph.indices().to_vector<int32_t>();
  for (int64_t t = 0; t < steps; ++t) {
    const Tensor h = t == 0 ? in[0] : states.alias(in[0].shape(), (t - 1) * in[0].numel());
    const Tensor a = ops::linear(h, in[2], in[3]), c = ops::linear(h, in[4]);
    const int64_t width = h.dim(2);
    for (int64_t b = 0; b < h.dim(0); ++b)
      for (int64_t i = 0; i < h.dim(1); ++i)
        for (int32_t e = offsets[static_cast<size_t>(i)]; e < offsets[static_cast<size_t>(i) + 1];
             ++e)
          for (int64_t k = 0; k < width; ++k) {
            const int64_t sample = b * h.dim(1);
            const int64_t j = indices[static_cast<size_t>(e)];
            nearest = std::min(nearest, std::abs(a.data<double>()[(sample + i) * width + k] +
                                                 c.data<double>()[(sample + j) * width + k]));
          }
  }
  return nearest;
}

// A case that keeps `margin` away from every kink: the first such of a row of seeds.
OpCase make_case(const std::string& name, const Graph& graph, Size size, double margin = 1e-4,
                 RefineForm form = RefineForm::fused) {
  std::vector<Tensor> inputs;
  for (uint64_t seed = 1; seed == 1 || nearest_message(inputs, graph, size.steps) < margin;
       seed += 10) {
    inputs = random_inputs(graph, size, seed);
    if (seed > 500) {
      ADD_FAILURE() << name << ": no seed keeps away from the kinks";
      break;
    }
  }
  // A gradient of the message's weights adds the messages along every edge.
  const auto added =
      static_cast<double>(size.batch * size.steps * std::max(graph.rows(), graph.entries()));
  return {.name = name,
          .inputs = inputs,
          .op =
              [graph, size, form](std::span<const Tensor> in) {
                return apply(in, graph, {.steps = size.steps, .form = form});
              },
          .derivatives = form == RefineForm::composed ? Derivatives::second : Derivatives::first,
          .terms = std::max(added, static_cast<double>(8 * size.channels)),
          .gradient_probes = margin < 1e-4 ? 0 : 6};
}

Graph ring(int nodes) {
  std::vector<std::vector<int32_t>> rows;
  for (int i = 0; i < nodes; ++i) rows.push_back({(i + nodes - 1) % nodes, (i + 1) % nodes});
  return Graph::from_rows(rows, nodes);
}

TEST(Refine, AwkwardGraphs) {
  std::vector<OpCase> cases;
  for (const auto& [name, graph] : awkward_graphs())
    cases.push_back(make_case(name, graph, {2, 3, 2}, name == "sudoku" ? 1e-6 : 1e-4));
  cases.push_back(make_case("more_nodes_than_a_tile", sudoku_graph(4), {1, 2, 1}, 1e-6));
  check_op("refine", cases);
}

TEST(Refine, AwkwardSizes) {
  std::vector<OpCase> cases;
  for (const int64_t n : kAwkwardSizes)
    cases.push_back(
        make_case("channels_" + std::to_string(n), ring(5), {1, n, 2}, n > 33 ? 1e-6 : 1e-4));
  for (const int64_t n : {0, 1, 7})
    cases.push_back(make_case("batch_" + std::to_string(n), ring(3), {n, 4, 2}));
  for (const int64_t n : {1, 3, 8})
    cases.push_back(make_case("steps_" + std::to_string(n), ring(3), {2, 4, n}));
  // More samples than chunks, on the CPU and on CUDA.
  cases.push_back(make_case("samples_70", ring(2), {70, 5, 2}, 1e-6));
  cases.push_back(make_case("samples_300", ring(2), {300, 2, 1}, 1e-6));
  check_op("refine", cases);
}

TEST(Refine, Sudoku) {
  check_op("refine", {make_case("sudoku", sudoku_graph(3), {2, 24, 2}, 1e-6)});
}

TEST(Refine, ComposedForm) {
  check_op("refine", {make_case("composed", awkward_graphs()[7].graph, {2, 3, 2}, 1e-4,
                                RefineForm::composed)});
}

struct Results {
  Tensor out;
  std::vector<Tensor> gradients;
};

Results run(const OpCase& c, const Graph& graph, ops::RefineOptions options, DType dtype,
            Device device) {
  std::vector<Tensor> inputs;
  for (const Tensor& t : c.inputs)
    inputs.push_back(t.to(dtype).to(device).clone().set_requires_grad());
  Results r;
  r.out = apply(inputs, graph, options);
  const Tensor g = random_tensor(r.out.shape(), 99).to(dtype).to(device);
  r.gradients = vjp({&r.out, 1}, inputs, {&g, 1});
  return r;
}

TEST(Refine, FormsAgree) {
  const Graph graph = awkward_graphs()[7].graph;  // not symmetric
  const OpCase c = make_case("forms", graph, {3, 9, 4}, 1e-6);
  const auto both = [&](DType dtype, Device device, auto compare) {
    const Results fused = run(c, graph, {.steps = 4, .form = RefineForm::fused}, dtype, device);
    const Results composed =
        run(c, graph, {.steps = 4, .form = RefineForm::composed}, dtype, device);
    compare(fused.out, composed.out, "states");
    for (size_t k = 0; k < fused.gradients.size(); ++k)
      compare(fused.gradients[k], composed.gradients[k], "gradient " + std::to_string(k));
  };
  both(DType::f64, Device::cpu, [](const Tensor& got, const Tensor& wanted, const std::string& of) {
    for (int64_t k = 0; k < wanted.numel(); ++k) {
      const double w = wanted.data<double>()[k];
      ASSERT_NEAR(got.data<double>()[k], w, 1e-10 * std::max(1.0, std::abs(w))) << of << " " << k;
    }
  });
  for (const Device device : {Device::cpu, Device::cuda})
    if (available(device))
      both(DType::f32, device, [&](const Tensor& got, const Tensor& wanted, const std::string& of) {
        expect_close(got, wanted.to(Device::cpu).to(DType::f64), c.tolerance, c.terms, of);
      });
}

// The last state alone: the same bits, recorded or not.
TEST(Refine, LastState) {
  const Graph graph = ring(9);
  const OpCase c = make_case("last", graph, {3, 20, 5}, 1e-6);
  for (const Device device : {Device::cpu, Device::cuda}) {
    if (!available(device)) continue;
    std::vector<Tensor> in;
    for (const Tensor& t : c.inputs) in.push_back(t.to(DType::f32).to(device));
    const Tensor all = apply(in, graph, {.steps = 5});
    const Tensor wanted = all.alias(in[0].shape(), 4 * in[0].numel());
    const Tensor last = apply(in, graph, {.steps = 5, .keep = States::last});
    expect_same_bits(last, wanted, name(device));
    const Results recorded = run(c, graph, {.steps = 5, .keep = States::last}, DType::f32, device);
    expect_same_bits(recorded.out, wanted, name(device));
    const Results composed =
        run(c, graph, {.steps = 5, .keep = States::last, .form = RefineForm::composed}, DType::f32,
            device);
    for (size_t k = 0; k < composed.gradients.size(); ++k)
      expect_close(recorded.gradients[k], composed.gradients[k].to(Device::cpu).to(DType::f64),
                   c.tolerance, c.terms, "gradient " + std::to_string(k));
  }
}

TEST(Refine, LastStateNeedsNoMemoryForTheOthers) {
  const Graph graph = ring(9);
  for (const Device device : {Device::cpu, Device::cuda}) {
    if (!available(device)) continue;
    std::vector<Tensor> in;
    for (const Tensor& t : random_inputs(graph, {2, 8, 1}, 1))
      in.push_back(t.to(DType::f32).to(device));
    const auto peak = [&](int64_t steps) {
      reset_peak_memory(device);
      const int64_t before = memory_stats(device).live;
      apply(in, graph, {.steps = steps, .keep = States::last});
      return memory_stats(device).peak - before;
    };
    EXPECT_EQ(peak(1), peak(50)) << name(device);
  }
}

// Only the gradients that are asked for: those of h and x when the weights are frozen.
TEST(Refine, FrozenInputs) {
  const Graph graph = ring(4);
  const OpCase c = make_case("frozen", graph, {2, 6, 3}, 1e-6);
  for (const Device device : {Device::cpu, Device::cuda}) {
    if (!available(device)) continue;
    const Results wanted = run(c, graph, {.steps = 3}, DType::f32, device);
    std::vector<Tensor> in;
    for (const Tensor& t : c.inputs) in.push_back(t.to(DType::f32).to(device));
    // Of the states and x; of all but x; of the states alone.
    for (const std::vector<size_t>& asked :
         std::vector<std::vector<size_t>>{{0, 1}, {0, 2, 3, 4, 5, 6, 7}, {0}}) {
      std::vector<Tensor> with = in, leaves;
      for (const size_t k : asked) leaves.push_back(with[k] = in[k].clone().set_requires_grad());
      const Tensor out = apply(with, graph, {.steps = 3});
      const Tensor g = random_tensor(out.shape(), 99).to(DType::f32).to(device);
      const std::vector<Tensor> got = vjp({&out, 1}, leaves, {&g, 1});
      for (size_t k = 0; k < got.size(); ++k)
        expect_same_bits(got[k], wanted.gradients[asked[k]], name(device));
    }
  }
}

TEST(Refine, NotFinite) {
  const double inf = std::numeric_limits<double>::infinity();
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const Graph path = Graph::from_rows({{1}, {0, 2}, {1}, {}}, 4);
  OpCase c = make_case("nan_and_infinities", path, {1, 3, 1}, 1e-6);
  c.gradient_probes = 0;
  c.inputs[0] = c.inputs[0].clone();
  c.inputs[0].mutable_data<double>()[0] = nan;  // of node 0: node 3 has no neighbours and stays
  c.inputs[1] = c.inputs[1].clone();
  c.inputs[1].mutable_data<double>()[3 * 9] = inf;
  c.inputs[1].mutable_data<double>()[3 * 9 + 4] = -inf;
  check_op("refine", {c});
}

// Of three channels, the fourth that CUDA counts is zero whatever the others hold. An infinite
// state whose messages are all minus infinity, and whose gates are all open, leaves the rest
// finite.
TEST(Refine, InfiniteStateOfThreeChannels) {
  const Graph path = Graph::from_rows({{1}, {0, 2}, {1}, {}}, 4);
  std::vector<Tensor> in = random_inputs(path, {1, 3, 1}, 1);
  for (Tensor& t : in) t = t.clone();
  in[0].mutable_data<double>()[0] = std::numeric_limits<double>::infinity();
  for (const auto& [weight, value] : {std::pair{2, -1.0}, {4, -1.0}, {6, 1.0}})
    for (int64_t row = 0; row < in[weight].dim(0); ++row)
      in[weight].mutable_data<double>()[3 * row] = value;
  const std::vector<double> wanted = apply(in, path, {.steps = 2}).to_vector<double>();
  ASSERT_EQ(std::count_if(wanted.begin(), wanted.end(), [](double x) { return std::isfinite(x); }),
            std::ssize(wanted) - 2);  // the state itself, in both steps
  for (const Device device : {Device::cpu, Device::cuda}) {
    if (!available(device)) continue;
    std::vector<Tensor> single;
    for (const Tensor& t : in) single.push_back(t.to(DType::f32).to(device));
    const std::vector<float> got = apply(single, path, {.steps = 2}).to_vector<float>();
    for (size_t e = 0; e < wanted.size(); ++e)
      if (std::isfinite(wanted[e]))
        EXPECT_NEAR(got[e], wanted[e], 1e-5) << name(device) << " " << e;
      else
        EXPECT_EQ(got[e], static_cast<float>(wanted[e])) << name(device) << " " << e;
  }
}

TEST(Refine, ByHand) {
  // Two nodes that listen to each other, one channel: a = h + 1, c = 2 h, s = relu(a_i + c_j).
  const Graph pair = Graph::from_rows({{1}, {0}}, 2);
  const auto tensor = [](const std::vector<float>& v, Shape shape) {
    return Tensor::from<float>(v, std::move(shape));
  };
  const ops::RefineWeights w{.receiver = tensor({1}, {1, 1}),
                             .receiver_bias = tensor({1}, {1}),
                             .sender = tensor({2}, {1, 1}),
                             .message = tensor({0, 0, 0.5f}, {3, 1}),
                             .state = tensor({0, 0, 0}, {3, 1}),
                             .state_bias = tensor({0, -50, 0}, {3})};
  const Tensor out = ops::refine(tensor({0.5f, -1}, {1, 2, 1}),
                                 tensor({0, 0, 0.25f, 0, 0, 0}, {1, 2, 3}), pair, w, {.steps = 2});
  // Update gates are closed: h' = tanh(x_n + s / 2). Step 1: s = relu(1.5 - 2), relu(0 + 1).
  const float first = std::tanh(0.25f), second = std::tanh(0.5f);
  const float third = std::tanh(0.25f + 0.5f * (first + 1 + 2 * second));
  const float fourth = std::tanh(0.5f * (second + 1 + 2 * first));
  EXPECT_THAT(out.to_vector<float>(),
              testing::Pointwise(testing::FloatEq(), {first, second, third, fourth}));
}

TEST(Refine, SecondDerivativeNeedsTheComposedForm) {
  const Graph graph = ring(3);
  std::vector<Tensor> in = random_inputs(graph, {1, 2, 1}, 1);
  const auto twice = [&](RefineForm form) {
    for (Tensor& t : in) t = t.detach().set_requires_grad();
    const Tensor out = apply(in, graph, {.steps = 2, .form = form});
    const Tensor first =
        vjp(out, in[0], Tensor::full(out.shape(), 1, out.options()), {.create_graph = true});
    return vjp(first, in[2], Tensor::full(first.shape(), 1, first.options()));
  };
  EXPECT_NO_THROW(twice(RefineForm::composed));
  try {
    twice(RefineForm::fused);
    FAIL() << "no error";
  } catch (const GradientError& e) {
    EXPECT_THAT(e.what(), testing::HasSubstr("refine_backward"));
  }
}

TEST(Refine, RefusesWrongInputs) {
  const Graph graph = ring(3);
  const std::vector<Tensor> right = random_inputs(graph, {2, 4, 1}, 1);
  EXPECT_NO_THROW(apply(right, graph, {}));
  for (size_t k = 0; k < right.size(); ++k) {
    std::vector<Tensor> in = right;
    Shape shape = right[k].shape();
    shape.back() += 1;
    in[k] = Tensor::zeros(shape, right[k].options());
    EXPECT_THROW(apply(in, graph, {}), ShapeError) << k;
    in[k] = right[k].to(DType::f32);
    EXPECT_THROW(apply(in, graph, {}), TypeError) << k;
    in[k] = Tensor();
    if (k > 0) {
      EXPECT_THROW(apply(in, graph, {}), TypeError) << k;
    }
  }
  EXPECT_THROW(apply(right, ring(4), {}), ShapeError);
  EXPECT_THROW(apply(right, Graph::from_rows({{}, {}, {}}, 4), {}), ShapeError);
  EXPECT_THROW(apply(right, graph, {.steps = 0}), OptionError);
}

#if defined(STILLPOINT_CUDA_EMULATED)

// An H100 gives a block 227 KiB, which is 220 channels of 81 nodes.
TEST(Refine, CudaTakesWhatFits) {
  EXPECT_TRUE(kernels::cuda::refine_fits(81, 220));
  EXPECT_FALSE(kernels::cuda::refine_fits(81, 221));
  const Graph graph = sudoku_graph(3);
  std::vector<Tensor> in;
  for (const Tensor& t : random_inputs(graph, {1, 221, 1}, 1))
    in.push_back(t.to(DType::f32).to(Device::cuda));
  EXPECT_THROW(apply(in, graph, {.form = RefineForm::fused}), OptionError);
  expect_same_bits(apply(in, graph, {}), apply(in, graph, {.form = RefineForm::composed}),
                   "automatic");
}

#endif

}  // namespace
}  // namespace stillpoint::test
