#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "engine/cuda/runtime.h"
#include "engine/device.h"
#include "engine/error.h"
#include "engine/memory.h"
#include "engine/ops.h"
#include "engine/optim/adamw.h"

#if defined(STILLPOINT_CUDA_EMULATED)
#include "kernels/emulation/emulation.h"
#endif

namespace stillpoint {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;
using Source = kernels::Status::Source;

TEST(CudaRuntime, NamesItsDevice) {
  if (available(Device::cuda)) {
    EXPECT_THAT(cuda::device_name(), HasSubstr("compute "));
  } else {
    EXPECT_EQ(cuda::device_name(), "none");
  }
}

TEST(CudaRuntime, FailedCallsSayOpCallAndError) {
  if (!available(Device::cuda)) {
    EXPECT_THAT([] { cuda::check_status({}, "some_op"); },
                ThrowsMessage<DeviceError>(HasSubstr("no CUDA backend")));
    return;
  }
  EXPECT_NO_THROW(cuda::check_status({}, "some_op"));
  const auto failed = [](Source source) {
    return [source] { cuda::check_status({1, source, "some_call"}, "some_op"); };
  };
  EXPECT_THAT(failed(Source::cuda),
              ThrowsMessage<DeviceError>(HasSubstr("some_op: some_call failed with cudaError")));
  EXPECT_THAT(
      failed(Source::cublas),
      ThrowsMessage<DeviceError>(HasSubstr("some_op: some_call failed with CUBLAS_STATUS")));
  EXPECT_THAT(
      failed(Source::cusparse),
      ThrowsMessage<DeviceError>(HasSubstr("some_op: some_call failed with CUSPARSE_STATUS")));
}

#if defined(STILLPOINT_CUDA_EMULATED)

// While one of these lives, the device has no more memory to give.
class NoMemory {
 public:
  NoMemory() {
    size_t free = 0;
    (void)cudaMemGetInfo(&free, &total_);
    used_ = total_ - free;
    emulation::set_memory_limit(used_);
  }
  ~NoMemory() { emulation::set_memory_limit(total_); }
  NoMemory(const NoMemory&) = delete;
  NoMemory& operator=(const NoMemory&) = delete;
  size_t used() const { return used_; }

 private:
  size_t total_ = 0, used_ = 0;
};

TEST(CudaRuntime, AHandledErrorIsOver) {
  const Tensor x = Tensor::full({3}, 2.0, {.device = Device::cuda});
  {
    const NoMemory none;
    EXPECT_THAT([] { (void)Tensor::empty({1 << 20}, {.device = Device::cuda}); },
                ThrowsMessage<DeviceError>(HasSubstr("device 0")));
  }
  EXPECT_THAT(ops::square(x).to_vector<float>(), testing::Each(4.f));
}

TEST(CudaRuntime, FillingCopiesNothingFromTheHost) {
  const auto copies = [] { return emulation::counters().copies; };
  const int64_t before = copies();
  const Tensor x = Tensor::full({1000}, 1.5, {.device = Device::cuda});
  const Tensor n = Tensor::full({3}, -7, {DType::i32, Device::cuda});
  cuda::synchronize();
  EXPECT_EQ(copies(), before);
  EXPECT_THAT(x.to_vector<float>(), testing::Each(1.5f));
  EXPECT_THAT(n.to_vector<int32_t>(), testing::Each(-7));
}

TEST(CudaRuntime, CachedBlocksAreGivenUpBeforeMemoryRunsOut) {
  constexpr int64_t kBytes = int64_t{8} << 20;
  release_cached_memory(Device::cuda);
  { const Block cached = allocate(kBytes, Device::cuda); }
  const NoMemory none;
  emulation::set_memory_limit(none.used() + kBytes / 2);
  EXPECT_NO_THROW((void)allocate(kBytes + kBytes / 4, Device::cuda));
  release_cached_memory(Device::cuda);
}

// A table that could not be sent must not pass for the one on the device.
TEST(CudaRuntime, SlotTableIsSentAgainAfterAFailure) {
  const auto tensor = [](double value) {
    return Tensor::full({2}, value, {.device = Device::cuda});
  };
  const auto slot = [&](double gradient) {
    return optim::Slot{tensor(0), tensor(gradient), tensor(0), tensor(0)};
  };
  const std::vector<optim::Slot> few = {slot(1)};
  const std::vector<optim::Slot> many(40, slot(2));
  optim::SlotTable table;
  table.set(few);
  release_cached_memory(Device::cuda);
  {
    const NoMemory none;
    EXPECT_THROW(table.set(many), DeviceError);
  }
  table.set(many);
  EXPECT_FLOAT_EQ(optim::gradient_norm(table, 1e9).to_vector<float>()[0], std::sqrt(80 * 4.f));
}

TEST(CudaRuntime, AveragingThatFailsLeavesTheParametersAlone) {
  const auto parameter = [](int64_t n) {
    return Tensor::full({n}, 3.0, {.device = Device::cuda}).set_requires_grad();
  };
  const Tensor small = parameter(1), large = parameter(1 << 20);
  optim::AdamW optimiser({{"a", small}, {"b", large}}, {.average_decay = 0.5});
  backward(ops::add(ops::sum(small), ops::sum(large)));
  optimiser.step();
  const float own = small.to_vector<float>()[0];
  release_cached_memory(Device::cuda);
  { const Tensor cached = Tensor::empty({1}, {.device = Device::cuda}); }
  {
    const NoMemory none;
    EXPECT_THROW(optim::AveragedParameters{optimiser}, DeviceError);
  }
  EXPECT_EQ(small.to_vector<float>()[0], own);
}

#endif

}  // namespace
}  // namespace stillpoint
