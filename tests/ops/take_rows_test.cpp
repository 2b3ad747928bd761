#include <gmock/gmock.h>

#include "engine/implicit/solver_state.h"
#include "tests/support/op_test.h"

namespace stillpoint::test {
namespace {

using testing::ElementsAre;

OpCase take_case(const std::string& name, Shape shape, int64_t picks) {
  return {.name = name,
          .inputs = {random_tensor(shape, 1),
                     random_indices({picks}, static_cast<int32_t>(shape[0]), 2)},
          .op = [](std::span<const Tensor> x) { return implicit::take_rows(x[0], x[1]); },
          .derivatives = Derivatives::none};
}

// Rows in reverse into twice as many: every index once.
OpCase put_case(const std::string& name, Shape shape) {
  std::vector<int32_t> places;
  for (int64_t r = shape[0]; r-- > 0;) places.push_back(static_cast<int32_t>(2 * r));
  Shape whole = shape;
  whole[0] *= 2;
  return {.name = name,
          .inputs = {random_tensor(shape, 1), Tensor::from(places, {shape[0]})},
          .op =
              [whole](std::span<const Tensor> x) {
                Tensor into = Tensor::full(whole, 3.0, x[0].options());
                implicit::put_rows(x[0], x[1], into);
                return into;
              },
          .derivatives = Derivatives::none};
}

TEST(TakeRows, AwkwardSizes) {
  std::vector<OpCase> cases;
  for (const int64_t n : kAwkwardSizes) {
    cases.push_back(take_case("picks_" + std::to_string(n), {10, 5}, n));
    cases.push_back(take_case("words_" + std::to_string(n), {6, n}, 9));
    cases.push_back(put_case("put_words_" + std::to_string(n), {6, n}));
    cases.push_back(put_case("put_rows_" + std::to_string(n), {n, 3}));
  }
  cases.push_back(take_case("no_channels", {7}, 5));
  cases.push_back(take_case("several_chunks", {40, 3, 1000}, 40));
  check_op("take_rows", cases);
}

TEST(TakeRows, ByHandForEveryType) {
  const Tensor index = Tensor::from<int32_t>({2, 0}, {2});
  const Tensor whole = Tensor::from<int32_t>({1, 2, 3, 4, 5, 6}, {3, 2});
  EXPECT_THAT(implicit::take_rows(whole, index).to_vector<int32_t>(), ElementsAre(5, 6, 1, 2));
  const Tensor real = Tensor::from<double>({1, 2, 3}, {3, 1});
  EXPECT_THAT(implicit::take_rows(real, index).to_vector<double>(), ElementsAre(3, 1));
  Tensor into = Tensor::zeros({3, 1}, {.dtype = DType::f64});
  implicit::put_rows(Tensor::from<double>({7, 8}, {2, 1}), index, into);
  EXPECT_THAT(into.to_vector<double>(), ElementsAre(8, 0, 7));
  if (!available(Device::cuda)) return;
  EXPECT_THAT(
      implicit::take_rows(whole.to(Device::cuda), index.to(Device::cuda)).to_vector<int32_t>(),
      ElementsAre(5, 6, 1, 2));
}

TEST(TakeRows, RefusesWrongInputs) {
  const Tensor x = Tensor::zeros({3, 2});
  const Tensor index = Tensor::from<int32_t>({0}, {1});
  Tensor into = Tensor::zeros({4, 2});
  EXPECT_THROW(implicit::take_rows(x, x), TypeError);
  EXPECT_THROW(implicit::take_rows(Tensor::zeros({}), index), ShapeError);
  EXPECT_THROW(implicit::take_rows(x, Tensor::from<int32_t>({0}, {1, 1})), ShapeError);
  EXPECT_THROW(implicit::put_rows(x, index, into), ShapeError);
  EXPECT_THROW(implicit::put_rows(Tensor::zeros({1, 3}), index, into), ShapeError);
  EXPECT_THROW(implicit::put_rows(Tensor::zeros({1, 2}, {.dtype = DType::f64}), index, into),
               TypeError);
}

}  // namespace
}  // namespace stillpoint::test
