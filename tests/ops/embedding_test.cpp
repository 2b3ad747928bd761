#include <gmock/gmock.h>

#include <cmath>

#include "engine/ops.h"
#include "tests/support/op_test.h"

namespace stillpoint::test {
namespace {

OpCase make_case(const std::string& name, int64_t entries, Shape picks, int64_t channels) {
  return {.name = name,
          .inputs = {random_tensor({entries, channels}, 1),
                     random_indices(picks, static_cast<int32_t>(entries), 2)},
          .op = [](std::span<const Tensor> x) { return ops::embedding(x[0], x[1]); },
          .terms = static_cast<double>(numel(picks))};
}

TEST(Embedding, AwkwardSizes) {
  std::vector<OpCase> cases;
  for (const int64_t n : kAwkwardSizes) {
    if (n > 0) cases.push_back(make_case("entries_" + std::to_string(n), n, {40}, 3));
    cases.push_back(make_case("picks_" + std::to_string(n), 10, {n}, 5));
    cases.push_back(make_case("channels_" + std::to_string(n), 5, {2, 9}, n));
  }
  cases.push_back(make_case("one_pick", 4, {}, 6));
  cases.push_back(make_case("several_chunks", 600, {600}, 140));
  cases.back().gradient_probes = 0;
  cases.push_back(make_case("parts", 3, {1111}, 5));
  cases.push_back(make_case("fewer_parts_than_picks_allow", 500, {1200}, 5));
  check_op("embedding", cases);
}

TEST(Embedding, ByHand) {
  Tensor table = Tensor::from<float>({1, 2, 3, 4, 5, 6}, {3, 2});
  table.set_requires_grad();
  const Tensor y = ops::embedding(table, Tensor::from<int32_t>({2, 0, 2}, {3}));
  EXPECT_THAT(y.to_vector<float>(), testing::ElementsAre(5, 6, 1, 2, 5, 6));
  const Tensor g = vjp(y, table, Tensor::from<float>({1, 2, 3, 4, 5, 6}, {3, 2}));
  EXPECT_THAT(g.to_vector<float>(), testing::ElementsAre(3, 4, 0, 0, 6, 8));
}

TEST(Embedding, RefusesWrongInputs) {
  const Tensor table = Tensor::zeros({3, 2});
  const auto pick = [](int32_t i) { return Tensor::from<int32_t>({i}, {1}); };
  EXPECT_THROW(ops::embedding(table, pick(3)), OptionError);
  EXPECT_THROW(ops::embedding(table, pick(-1)), OptionError);
  EXPECT_THROW(ops::embedding(Tensor::zeros({3}), pick(0)), ShapeError);
  EXPECT_THROW(ops::embedding(table, Tensor::zeros({1})), TypeError);
  EXPECT_THROW(ops::embedding(pick(0), pick(0)), TypeError);
}

TEST(Embedding, MarksIndicesOutsideOnCuda) {
  if (!available(Device::cuda)) GTEST_SKIP() << "no CUDA device";
  Tensor table = Tensor::from<float>({1, 2}, {2, 1}).to(Device::cuda);
  table.set_requires_grad();
  const Tensor y =
      ops::embedding(table, Tensor::from<int32_t>({1, -1, 2, 1}, {4}).to(Device::cuda));
  const std::vector<float> v = y.to_vector<float>();
  EXPECT_EQ(v[0], 2);
  EXPECT_TRUE(std::isnan(v[1]));
  EXPECT_TRUE(std::isnan(v[2]));
  const Tensor g = Tensor::from<float>({1, 2, 4, 8}, {4, 1}).to(Device::cuda);
  EXPECT_THAT(vjp(y, table, g).to_vector<float>(), testing::ElementsAre(0, 9));
}

}  // namespace
}  // namespace stillpoint::test
