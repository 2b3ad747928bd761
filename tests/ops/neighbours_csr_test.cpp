#include "kernels/neighbours_csr/neighbours_csr.h"

#include <gmock/gmock.h>

#include "engine/dispatch.h"
#include "engine/ops.h"
#include "kernels/common/parallel.h"
#include "kernels/neighbours_csr/neighbours_csr_reference.h"
#include "tests/support/op_test.h"

namespace stillpoint::test {
namespace {

using testing::ElementsAre;
using Ints = std::vector<int32_t>;

struct Csr {
  Ints offsets, indices;  // those that are written
  bool operator==(const Csr&) const = default;
};

Csr on_host(const ops::NeighboursCsr& csr) {
  Csr out{csr.offsets.to_vector<int32_t>(), csr.indices.to_vector<int32_t>()};
  out.indices.resize(static_cast<size_t>(out.offsets.back()));
  return out;
}

Csr by_definition(const Tensor& neighbours, int64_t keys) {
  const int64_t batch = neighbours.dim(0), nodes = neighbours.dim(1);
  Csr out{Ints(static_cast<size_t>(batch * nodes) + 1),
          Ints(static_cast<size_t>(neighbours.numel()))};
  kernels::reference::neighbours_csr({.neighbours = neighbours.data<int32_t>(),
                                      .offsets = out.offsets.data(),
                                      .indices = out.indices.data(),
                                      .batch = batch,
                                      .nodes = nodes,
                                      .count = neighbours.dim(2),
                                      .keys = keys,
                                      .workspace = nullptr,
                                      .workspace_bytes = 0});
  out.indices.resize(static_cast<size_t>(out.offsets.back()));
  return out;
}

// Every backend and number of threads gives what the definition says.
void check_neighbours(const std::string& name, const Tensor& neighbours, int64_t keys) {
  SCOPED_TRACE(name);
  const Csr wanted = by_definition(neighbours, keys);
  for (const int threads : {1, 2, 3}) {
    kernels::set_num_threads(threads);
    const Csr got = on_host(ops::neighbours_csr(neighbours, keys));
    kernels::set_num_threads(0);
    EXPECT_EQ(got, wanted) << threads << " threads";
  }
  if (!available(Device::cuda)) return;
  const KernelCounts before = kernel_counts();
  EXPECT_EQ(on_host(ops::neighbours_csr(neighbours.to(Device::cuda), keys)), wanted) << "cuda";
  EXPECT_EQ(kernel_counts().cpu, before.cpu);
}

// Neighbours of which about a third are none.
Tensor random_neighbours(Shape shape, int32_t keys) {
  Ints v = random_indices(shape, keys + keys / 2 + 1, 5).to_vector<int32_t>();
  for (int32_t& j : v) j = j < keys ? j : -1;
  return Tensor::from(v, shape);
}

TEST(NeighboursCsr, AwkwardSizes) {
  for (const int64_t n : kAwkwardSizes) {
    check_neighbours("nodes_" + std::to_string(n), random_neighbours({2, n, 3}, 9), 9);
    check_neighbours("count_" + std::to_string(n), random_neighbours({2, 4, n}, 9), 9);
    check_neighbours("batch_" + std::to_string(n), random_neighbours({n, 2, 3}, 4), 4);
  }
}

// More rows than one thread of the CPU takes at once.
TEST(NeighboursCsr, ManyRows) {
  check_neighbours("many", random_neighbours({5, 1500, 20}, 1500), 1500);
}

TEST(NeighboursCsr, NoneAndAll) {
  check_neighbours("none", Tensor::full({2, 3, 4}, -1, {.dtype = DType::i32}), 5);
  check_neighbours("all", random_indices({2, 3, 4}, 5, 1), 5);
}

TEST(NeighboursCsr, ByHand) {
  const Csr csr = on_host(
      ops::neighbours_csr(Tensor::from<int32_t>({2, -1, -1, -1, 0, 2, 1, -1}, {2, 2, 2}), 3));
  EXPECT_THAT(csr.offsets, ElementsAre(0, 1, 1, 3, 4));
  EXPECT_THAT(csr.indices, ElementsAre(2, 3, 5, 4));
}

TEST(NeighboursCsr, RefusesWrongInputs) {
  EXPECT_THROW(ops::neighbours_csr(Tensor::zeros({1, 2, 3}), 3), TypeError);
  const Tensor flat = Tensor::zeros({2, 3}, {.dtype = DType::i32});
  EXPECT_THROW(ops::neighbours_csr(flat, 3), ShapeError);
  const Tensor some = Tensor::zeros({4, 2, 3}, {.dtype = DType::i32});
  EXPECT_THROW(ops::neighbours_csr(some, -1), ShapeError);
  EXPECT_THROW(ops::neighbours_csr(some, int64_t{1} << 29), ShapeError);
}

}  // namespace
}  // namespace stillpoint::test
