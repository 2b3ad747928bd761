#include <gmock/gmock.h>

#include <limits>

#include "engine/cuda/runtime.h"
#include "engine/ops.h"
#include "tests/support/graphs.h"
#include "tests/support/op_test.h"

namespace stillpoint::test {
namespace {

using ops::SpmmBackend;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::ThrowsMessage;

// The library where it is: on CUDA. The reference and the CPU have none.
SpmmBackend where_possible(SpmmBackend wanted, const Tensor& x) {
  return x.device() == Device::cuda ? wanted : SpmmBackend::own;
}

OpCase make_case(const std::string& name, const Graph& graph, int64_t batch, int64_t channels,
                 SpmmBackend backend = SpmmBackend::own) {
  return {.name = name,
          .inputs = {random_tensor({graph.entries()}, 1),
                     random_tensor({batch, graph.cols(), channels}, 2)},
          .op =
              [=](std::span<const Tensor> in) {
                return ops::spmm(in[0], in[1], graph.to(in[1].device()),
                                 where_possible(backend, in[1]));
              },
          // The gradient of a value adds batch * channels products, an output up to 32.
          .terms = std::max(32.0, static_cast<double>(batch * channels))};
}

std::vector<OpCase> awkward_cases(SpmmBackend backend) {
  std::vector<OpCase> cases;
  for (const auto& [name, graph] : awkward_graphs())
    cases.push_back(make_case(name, graph, 2, 8, backend));
  for (const auto& [name, graph] : awkward_factor_graphs())
    cases.push_back(make_case("rectangular_" + name, graph, 2, 3, backend));
  for (const int64_t batch : {0, 1, 7, 19})
    cases.push_back(
        make_case("batch_" + std::to_string(batch), awkward_graphs()[6].graph, batch, 5, backend));
  return cases;
}

TEST(Spmm, AwkwardGraphs) { check_op("spmm", awkward_cases(SpmmBackend::own)); }

TEST(Spmm, LibraryOnAwkwardGraphs) {
  check_op("spmm_library", awkward_cases(SpmmBackend::library));
}

TEST(Spmm, AwkwardChannels) {
  const Graph uneven = awkward_factor_graphs()[3].graph;
  std::vector<OpCase> cases;
  for (const int64_t channels : kAwkwardSizes)
    cases.push_back(make_case("channels_" + std::to_string(channels), uneven, 1, channels));
  for (const int64_t channels : {20, 96, 132})
    cases.push_back(make_case("channels_" + std::to_string(channels), uneven, 3, channels));
  check_op("spmm", cases);
}

// Values need no gradient, or x needs none: the other's is right all the same.
TEST(Spmm, OneSidedGradients) {
  const Graph graph = awkward_graphs()[4].graph;
  const Tensor values = random_tensor({graph.entries()}, 3);
  const Tensor x = random_tensor({2, graph.cols(), 5}, 4);
  const auto at = [](const Tensor& t, const Tensor& like) {
    return t.to(like.dtype()).to(like.device());
  };
  check_op("spmm", {{.name = "values_only",
                     .inputs = {values},
                     .op =
                         [=](std::span<const Tensor> in) {
                           return ops::spmm(in[0], at(x, in[0]), graph.to(in[0].device()));
                         },
                     .terms = 32},
                    {.name = "x_only",
                     .inputs = {x},
                     .op =
                         [=](std::span<const Tensor> in) {
                           return ops::spmm(at(values, in[0]), in[0], graph.to(in[0].device()));
                         },
                     .terms = 32}});
}

TEST(Spmm, WithoutValuesAllAreOne) {
  std::vector<OpCase> cases;
  for (const SpmmBackend backend : {SpmmBackend::own, SpmmBackend::library})
    for (const auto& [name, graph] : awkward_factor_graphs())
      cases.push_back({.name = name,
                       .inputs = {random_tensor({2, graph.cols(), 9}, 5)},
                       .op =
                           [=, g = graph](std::span<const Tensor> in) {
                             return ops::spmm({}, in[0], g.to(in[0].device()),
                                              where_possible(backend, in[0]));
                           },
                       .terms = 32});
  check_op("spmm", cases);
}

TEST(Spmm, NotFinite) {
  const double inf = std::numeric_limits<double>::infinity();
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const Graph graph = Graph::from_rows({{0, 1}, {1, 2}, {2}, {}}, 3);
  check_op("spmm", {{.name = "nan_and_infinities",
                     .inputs = {Tensor::from<double>({1, 0, -1, 2, 0}, {5}),
                                Tensor::from<double>({nan, inf, 1, -inf, 2, inf}, {1, 3, 2})},
                     .op =
                         [graph](std::span<const Tensor> in) {
                           return ops::spmm(in[0], in[1], graph.to(in[1].device()));
                         },
                     .gradient_probes = 0}});
}

TEST(Spmm, KeepsOnlyWhatTheGradientNeeds) {
  const Graph graph = Graph::from_rows({{0}, {1}}, 2);
  Tensor values = Tensor::full({2}, 1.0);
  values.set_requires_grad();
  const int64_t before = memory_stats(Device::cpu).live;
  Tensor y;
  {
    Tensor x = Tensor::full({1000, 2, 8}, 1.0);
    x.set_requires_grad();
    y = ops::spmm(values.detach(), ops::square(x), graph);
    y = ops::sum(y);
  }
  // x itself is square's; the squares were needed by nobody.
  EXPECT_LT(memory_stats(Device::cpu).live - before, 2 * 1000 * 2 * 8 * 4);
  EXPECT_TRUE(y.requires_grad());
}

TEST(Spmm, ByHand) {
  // ( 2 .  3 )   ( 1 )   ( 302 )
  // ( . .  . ) x ( 10 ) = (  0 )
  // ( . 4  . )   ( 100)   (  40 )
  const Graph graph = Graph::from_rows({{2, 0}, {}, {1}}, 3);
  Tensor values = Tensor::from<float>({3, 2, 4}, {3});
  Tensor x = Tensor::from<float>({1, 10, 100}, {1, 3, 1});
  values.set_requires_grad();
  x.set_requires_grad();
  const Tensor y = ops::spmm(values, x, graph);
  EXPECT_THAT(y.to_vector<float>(), ElementsAre(302, 0, 40));
  const Tensor g = Tensor::from<float>({1, 5, 7}, {1, 3, 1});
  EXPECT_THAT(vjp(y, x, g, {.retain_graph = true}).to_vector<float>(), ElementsAre(2, 28, 3));
  EXPECT_THAT(vjp(y, values, g).to_vector<float>(), ElementsAre(100, 1, 70));
}

TEST(Spmm, RefusesWrongInputs) {
  const Graph graph = Graph::from_rows({{0, 1}, {1, 2}}, 3);
  const Tensor values = Tensor::zeros({4}), x = Tensor::zeros({1, 3, 4});
  EXPECT_THAT(
      [&] {
        ops::spmm(values, Tensor::zeros({1, 2, 4}), graph);
      },
      ThrowsMessage<ShapeError>(HasSubstr("x has shape [1, 2, 4], wanted [batch, 3,")));
  EXPECT_THROW(ops::spmm(values, Tensor::zeros({3, 4}), graph), ShapeError);
  EXPECT_THROW(ops::spmm(Tensor::zeros({5}), x, graph), ShapeError);
  EXPECT_THROW(ops::spmm(Tensor::zeros({4}, {.dtype = DType::f64}), x, graph), TypeError);
  EXPECT_THROW(ops::spmm(values, Tensor::zeros({1, 3, 4}, {.dtype = DType::i32}), graph),
               TypeError);
  EXPECT_THAT([&] { ops::spmm(values, x, graph, SpmmBackend::library); },
              ThrowsMessage<TypeError>(HasSubstr("x is on cpu")));
  if (available(Device::cuda)) {
    EXPECT_THROW(ops::spmm(values, x, graph.to(Device::cuda)), TypeError);
  }
}

TEST(Spmm, NamesTheLibrarysErrors) {
  if (!available(Device::cuda)) GTEST_SKIP() << "no CUDA device";
  EXPECT_THAT(
      [] {
        cuda::check_status(
            {.code = 3, .source = kernels::Status::Source::cusparse, .call = "cusparseSpMM"},
            "spmm");
      },
      ThrowsMessage<DeviceError>(
          HasSubstr("spmm: cusparseSpMM failed with CUSPARSE_STATUS_INVALID_VALUE")));
}

}  // namespace
}  // namespace stillpoint::test
