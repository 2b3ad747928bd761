#include <gmock/gmock.h>

#include "engine/ops.h"
#include "tests/support/op_test.h"

namespace stillpoint::test {
namespace {

OpCase make_case(const std::string& name, Shape shape, std::function<Tensor(const Tensor&)> f) {
  return {.name = name,
          .inputs = {random_tensor(std::move(shape), 40)},
          // The square makes the second derivative more than zero.
          .op = [f](std::span<const Tensor> in) { return f(ops::square(in[0])); }};
}

TEST(Views, ParityAndGradients) {
  std::vector<OpCase> cases;
  for (const int64_t n : kAwkwardSizes) {
    const std::string size = std::to_string(n);
    cases.push_back(make_case("reshape_" + size, {n, 6}, [n](const Tensor& x) {
      return ops::reshape(x, {2, 3, n});
    }));
    cases.push_back(
        make_case("rows_" + size, {n + 3, 2}, [n](const Tensor& x) { return ops::rows(x, 1, n); }));
  }
  check_op("views", cases);
}

TEST(Views, ShareTheElements) {
  const Tensor x = Tensor::from<float>({1, 2, 3, 4, 5, 6}, {3, 2});
  EXPECT_EQ(ops::reshape(x, {2, -1}).shape(), (Shape{2, 3}));
  EXPECT_EQ(ops::reshape(x, {6}).data<float>(), x.data<float>());
  EXPECT_THAT(ops::rows(x, 1, 2).to_vector<float>(), testing::ElementsAre(3, 4, 5, 6));
  EXPECT_EQ(ops::rows(x, 1, 2).data<float>(), x.data<float>() + 2);
  EXPECT_EQ(ops::rows(x, 0, x.dim(0)).data<float>(), x.data<float>());
}

TEST(Views, GradientMovesBackToItsDevice) {
  for (const Device device : {Device::cpu, Device::cuda}) {
    if (!available(device)) continue;
    Tensor x = Tensor::from<float>({1, -2}, {2});
    x.set_requires_grad();
    const Tensor y = ops::to(x, device);
    EXPECT_EQ(y.device(), device);
    backward(ops::sum(ops::square(y)));
    EXPECT_EQ(x.grad().device(), Device::cpu);
    EXPECT_THAT(x.grad().to_vector<float>(), testing::ElementsAre(2, -4));
  }
}

TEST(Views, RefuseWhatDoesNotFit) {
  const Tensor x = Tensor::zeros({3, 2});
  EXPECT_THROW(ops::reshape(x, {4}), ShapeError);
  EXPECT_THROW(ops::reshape(x, {4, -1}), ShapeError);
  EXPECT_THROW(ops::reshape(x, {-1, -1}), ShapeError);
  EXPECT_THROW(ops::reshape(Tensor::zeros({0}), {0, -1}), ShapeError);
  EXPECT_THROW(ops::rows(x, 2, 2), ShapeError);
  EXPECT_THROW(ops::rows(x, -1, 1), ShapeError);
  EXPECT_THROW(ops::rows(Tensor::zeros({}), 0, 0), ShapeError);
}

}  // namespace
}  // namespace stillpoint::test
