#include "kernels/transpose_csr/transpose_csr.h"

#include <gmock/gmock.h>

#include "engine/dispatch.h"
#include "engine/ops.h"
#include "engine/random.h"
#include "kernels/common/parallel.h"
#include "kernels/transpose_csr/transpose_csr_reference.h"
#include "tests/support/graphs.h"
#include "tests/support/op_test.h"

namespace stillpoint::test {
namespace {

using testing::ElementsAre;
using Ints = std::vector<int32_t>;

struct Transposed {
  Ints offsets, indices, order, inverse, degrees;
  bool operator==(const Transposed&) const = default;
};

Transposed on_host(const ops::CsrTranspose& t) {
  return {t.offsets.to_vector<int32_t>(), t.indices.to_vector<int32_t>(),
          t.order.to_vector<int32_t>(), t.inverse.to_vector<int32_t>(),
          t.degrees.to_vector<int32_t>()};
}

Transposed by_definition(const kernels::CsrView& p) {
  const auto entries = static_cast<size_t>(p.entries);
  Transposed t{Ints(static_cast<size_t>(p.cols) + 1), Ints(entries), Ints(entries), Ints(entries),
               Ints(2)};
  kernels::reference::transpose_csr({.pattern = p,
                                     .t_offsets = t.offsets.data(),
                                     .t_indices = t.indices.data(),
                                     .t_order = t.order.data(),
                                     .order = t.inverse.data(),
                                     .degrees = t.degrees.data(),
                                     .workspace = nullptr,
                                     .workspace_bytes = 0});
  return t;
}

// Every backend and number of threads gives what the definition says.
void check_transpose(const std::string& name, const Tensor& offsets, const Tensor& indices,
                     int64_t cols) {
  SCOPED_TRACE(name);
  const Transposed wanted = by_definition({.rows = offsets.numel() - 1,
                                           .cols = cols,
                                           .entries = indices.numel(),
                                           .offsets = offsets.data<int32_t>(),
                                           .indices = indices.data<int32_t>()});
  for (const int threads : {1, 2, 3}) {
    kernels::set_num_threads(threads);
    const Transposed got = on_host(ops::transpose_csr(offsets, indices, cols));
    kernels::set_num_threads(0);
    EXPECT_EQ(got, wanted) << threads << " threads";
  }
  if (!available(Device::cuda)) GTEST_SKIP() << "no CUDA device";
  const KernelCounts before = kernel_counts();
  EXPECT_EQ(on_host(ops::transpose_csr(offsets.to(Device::cuda), indices.to(Device::cuda), cols)),
            wanted)
      << "cuda";
  EXPECT_EQ(kernel_counts().cpu, before.cpu);
}

TEST(TransposeCsr, AwkwardGraphs) {
  for (const auto& graphs : {awkward_graphs(), awkward_factor_graphs()})
    for (const auto& [name, g] : graphs) check_transpose(name, g.offsets(), g.indices(), g.cols());
}

TEST(TransposeCsr, AwkwardSizes) {
  for (const int64_t n : kAwkwardSizes) {
    // n rows of one entry each, in columns that repeat; and one row of n entries.
    const int32_t cols = static_cast<int32_t>(n / 3 + 1);
    Ints offsets;
    for (int32_t i = 0; i <= n; ++i) offsets.push_back(i);
    const Tensor indices = random_indices({n}, cols, 5);
    check_transpose("rows_" + std::to_string(n), Tensor::from(offsets, {n + 1}), indices, cols);
    check_transpose("hub_" + std::to_string(n), Tensor::from(Ints{0, static_cast<int32_t>(n)}, {2}),
                    indices, cols);
  }
}

// Enough entries for the CPU to cut them into chunks, with rows that straddle the cuts and empty
// ones at them.
TEST(TransposeCsr, ManyChunks) {
  Philox random(3);
  Ints offsets{0}, indices;
  while (indices.size() < 150000) {
    const uint32_t length = random.below(5) == 0 ? 0 : random.below(3000);
    for (uint32_t k = 0; k < length; ++k) indices.push_back(static_cast<int32_t>(random.below(97)));
    offsets.push_back(static_cast<int32_t>(indices.size()));
  }
  check_transpose("many", Tensor::from(offsets, {static_cast<int64_t>(offsets.size())}),
                  Tensor::from(indices, {static_cast<int64_t>(indices.size())}), 97);
}

TEST(TransposeCsr, ByHand) {
  // Rows {2, 0}, {}, {2, 2} of 4 columns.
  const ops::CsrTranspose t = ops::transpose_csr(Tensor::from<int32_t>({0, 2, 2, 4}, {4}),
                                                 Tensor::from<int32_t>({2, 0, 2, 2}, {4}), 4);
  EXPECT_THAT(t.offsets.to_vector<int32_t>(), ElementsAre(0, 1, 1, 4, 4));
  EXPECT_THAT(t.indices.to_vector<int32_t>(), ElementsAre(0, 0, 2, 2));
  EXPECT_THAT(t.order.to_vector<int32_t>(), ElementsAre(1, 0, 2, 3));
  EXPECT_THAT(t.inverse.to_vector<int32_t>(), ElementsAre(1, 0, 2, 3));
  EXPECT_THAT(t.degrees.to_vector<int32_t>(), ElementsAre(0, 0));
}

TEST(TransposeCsr, RefusesWrongInputs) {
  const Tensor offsets = Tensor::from<int32_t>({0, 1}, {2}),
               indices = Tensor::from<int32_t>({0}, {1});
  EXPECT_THROW(ops::transpose_csr(Tensor::zeros({2}), indices, 1), TypeError);
  EXPECT_THROW(ops::transpose_csr(offsets, Tensor::zeros({1}), 1), TypeError);
  EXPECT_THROW(ops::transpose_csr(Tensor::empty({0}, {.dtype = DType::i32}), indices, 1),
               ShapeError);
  EXPECT_THROW(ops::transpose_csr(offsets, Tensor::from<int32_t>({0}, {1, 1}), 1), ShapeError);
  EXPECT_THROW(ops::transpose_csr(offsets, indices, -1), ShapeError);
}

}  // namespace
}  // namespace stillpoint::test
