#include "engine/tensor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <vector>

#include "engine/ops.h"

namespace stillpoint {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::ThrowsMessage;

std::vector<Device> devices() {
  return available(Device::cuda) ? std::vector{Device::cpu, Device::cuda}
                                 : std::vector{Device::cpu};
}

TEST(Tensor, HoldsWhatItWasGiven) {
  const Tensor t = Tensor::from<float>({1, 2, 3, 4, 5, 6}, {2, 3});
  EXPECT_THAT(t.shape(), ElementsAre(2, 3));
  EXPECT_EQ(t.numel(), 6);
  EXPECT_EQ(t.dim(-1), 3);
  EXPECT_EQ(t.bytes(), 24);
  EXPECT_EQ(t.dtype(), DType::f32);
  EXPECT_THAT(t.to_vector<float>(), ElementsAre(1, 2, 3, 4, 5, 6));
}

TEST(Tensor, SharesDataBetweenCopies) {
  Tensor a = Tensor::zeros({2});
  Tensor b = a;
  b.mutable_data<float>()[1] = 7;
  EXPECT_THAT(a.to_vector<float>(), ElementsAre(0, 7));
  const Tensor c = a.clone();
  b.mutable_data<float>()[0] = 9;
  EXPECT_THAT(c.to_vector<float>(), ElementsAre(0, 7));
}

TEST(Tensor, ConvertsBetweenTypes) {
  const Tensor t = Tensor::from<double>({1.5, -2.5}, {2});
  EXPECT_THAT(t.to(DType::f32).to_vector<float>(), ElementsAre(1.5f, -2.5f));
  EXPECT_THAT(t.to(DType::i32).to_vector<int32_t>(), ElementsAre(1, -2));
  EXPECT_THAT(t.to(DType::i32).to(DType::f64).to_vector<double>(), ElementsAre(1, -2));
}

TEST(Tensor, MovesToEveryDeviceAndBack) {
  for (const Device device : devices()) {
    const Tensor t = Tensor::from<int32_t>({3, 1, 2}, {3}).to(device);
    EXPECT_EQ(t.device(), device);
    EXPECT_THAT(t.to_vector<int32_t>(), ElementsAre(3, 1, 2));
    EXPECT_THAT(t.to(Device::cpu).to_vector<int32_t>(), ElementsAre(3, 1, 2));
    EXPECT_THAT(Tensor::full({2}, 1.5, {.device = device}).to_vector<float>(),
                ElementsAre(1.5f, 1.5f));
    EXPECT_THAT(Tensor::zeros({2}, {.device = device}).to_vector<float>(), ElementsAre(0, 0));
    EXPECT_EQ(Tensor::full({}, 4, {.device = device}).item(), 4.0);
  }
}

TEST(Tensor, EmptyAndScalarShapes) {
  for (const Device device : devices()) {
    const Tensor empty = Tensor::zeros({3, 0, 2}, {.device = device});
    EXPECT_EQ(empty.numel(), 0);
    EXPECT_TRUE(empty.to_vector<float>().empty());
    EXPECT_TRUE(empty.clone().to(Device::cpu).to_vector<float>().empty());
  }
  EXPECT_EQ(Tensor::full({}, 2).numel(), 1);
}

TEST(Tensor, AliasesStayWithinBounds) {
  const Tensor t = Tensor::from<float>({0, 1, 2, 3, 4, 5}, {6});
  EXPECT_THAT(t.alias({2, 2}, 1).to_vector<float>(), ElementsAre(1, 2, 3, 4));
  EXPECT_THROW((void)t.alias({4}, 3), ShapeError);
  EXPECT_THROW((void)t.alias({1}, -1), ShapeError);
  EXPECT_THROW((void)t.alias({1}, std::numeric_limits<int64_t>::max()), ShapeError);
  EXPECT_THROW((void)t.alias({std::numeric_limits<int64_t>::max()}, 1), ShapeError);
}

TEST(Tensor, ErrorsSayWhatWasGivenAndWanted) {
  EXPECT_THAT(
      [] {
        (void)Tensor::from<float>({1, 2}, {3});
      },
      ThrowsMessage<ShapeError>(HasSubstr("2 values were given for shape [3]")));
  EXPECT_THAT([] { (void)Tensor::zeros({2}).data<int32_t>(); },
              ThrowsMessage<TypeError>(HasSubstr("elements are f32, i32 was asked for")));
  EXPECT_THAT([] { (void)Tensor::zeros({2}).item(); },
              ThrowsMessage<ShapeError>(HasSubstr("shape [2] has 2")));
  EXPECT_THAT(
      [] {
        (void)Tensor::zeros({2, 3}).dim(2);
      },
      ThrowsMessage<ShapeError>(HasSubstr("dimension 2 of shape [2, 3]")));
  EXPECT_THROW((void)Tensor::zeros({-1}), ShapeError);
  EXPECT_THROW((void)Tensor::zeros({int64_t{1} << 40, int64_t{1} << 40}), ShapeError);
  EXPECT_THROW((void)Tensor::empty({int64_t{1} << 62}), ShapeError);  // bytes that overflow
  EXPECT_THROW((void)Tensor().shape(), ShapeError);
  EXPECT_THROW((void)Tensor().grad(), GradientError);
  EXPECT_THROW(Tensor().set_grad({}), GradientError);
  EXPECT_THROW(Tensor().set_requires_grad(), GradientError);
  EXPECT_THROW((void)Tensor::zeros({2}).assign(Tensor::zeros({3})), ShapeError);
}

TEST(Tensor, DoublesLiveOnTheCpuOnly) {
  EXPECT_THROW((void)Tensor::zeros({2}, {DType::f64, Device::cuda}), TypeError);
}

TEST(Tensor, AssignOverwritesFromAnyDevice) {
  for (const Device to : devices())
    for (const Device from : devices()) {
      Tensor t = Tensor::zeros({2}, {.device = to});
      t.assign(Tensor::from<float>({5, 6}, {2}).to(from));
      EXPECT_THAT(t.to_vector<float>(), ElementsAre(5, 6));
    }
}

}  // namespace
}  // namespace stillpoint
