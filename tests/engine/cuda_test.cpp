#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/cuda/runtime.h"
#include "engine/device.h"
#include "engine/error.h"

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

}  // namespace
}  // namespace stillpoint
