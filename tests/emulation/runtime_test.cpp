// Launches, failures and the device itself in the emulated runtime.
#include "engine/device.h"
#include "tests/emulation/runtime_fixture.h"

namespace stillpoint::emulation {
namespace {

using testing::HasSubstr;

TEST_F(Runtime, LaunchesAreChecked) {
  using namespace kernels;
  const auto refused = [](Status status) {
    EXPECT_EQ(status.code, cudaErrorInvalidConfiguration);
    EXPECT_STREQ(status.call, "empty_kernel");
  };
  refused(planted::launch_empty(0, 32, 0, streams_[0]));
  refused(planted::launch_empty(1, 0, 0, streams_[0]));
  refused(planted::launch_empty(1, 1025, 0, streams_[0]));
  EXPECT_THAT(last_error_message(), HasSubstr("launch of kernel empty_kernel: grid (0,1,1)"));
  EXPECT_TRUE(planted::launch_empty(1, 32, 232448, streams_[0]).ok());
  EXPECT_EQ(planted::launch_empty(1, 32, 232449, streams_[0]).code, cudaErrorInvalidValue);
  EXPECT_EQ(cudaStreamSynchronize(streams_[0]), cudaSuccess);
  EXPECT_EQ(counters().launches, 1);
}

TEST_F(Runtime, FailureLastsUntilReset) {
  upload(device_[0], ramp(0.0f));
  ASSERT_TRUE(planted::run("traps", device_[0], device_[1], streams_[0]).ok());
  EXPECT_EQ(cudaDeviceSynchronize(), cudaErrorLaunchFailure);
  EXPECT_EQ(cudaGetLastError(), cudaErrorLaunchFailure);
  EXPECT_EQ(cudaGetLastError(), cudaErrorLaunchFailure);
  EXPECT_EQ(cudaPeekAtLastError(), cudaErrorLaunchFailure);
  EXPECT_THAT(cudaGetErrorString(cudaErrorLaunchFailure), HasSubstr("trap in kernel traps"));
  void* p = nullptr;
  EXPECT_EQ(cudaMalloc(&p, 16), cudaErrorLaunchFailure);
  // A call that goes wrong later does not take the failure's message away, and has its own.
  int on_stack = 0;
  EXPECT_EQ(cudaFree(&on_stack), cudaErrorInvalidValue);
  EXPECT_THAT(cudaGetErrorString(cudaErrorLaunchFailure), HasSubstr("trap in kernel traps"));
  EXPECT_THAT(cudaGetErrorString(cudaErrorInvalidValue), HasSubstr("outside device memory"));
  reset();
  EXPECT_EQ(cudaMalloc(&p, 16), cudaSuccess);
  EXPECT_EQ(cudaFree(p), cudaSuccess);
}

// Tests of the CUDA backend skip where there is no device: here none may.
TEST_F(Runtime, EngineFindsTheDevice) { EXPECT_TRUE(available(Device::cuda)); }

TEST_F(Runtime, DeviceDescribesItself) {
  int count = 0, device = -1, value = 0;
  EXPECT_EQ(cudaGetDeviceCount(&count), cudaSuccess);
  EXPECT_EQ(count, 1);
  EXPECT_EQ(cudaSetDevice(0), cudaSuccess);
  EXPECT_EQ(cudaSetDevice(1), cudaErrorInvalidDevice);
  EXPECT_EQ(cudaGetDevice(&device), cudaSuccess);
  EXPECT_EQ(device, 0);
  cudaDeviceProp properties;
  EXPECT_EQ(cudaGetDeviceProperties(&properties, 0), cudaSuccess);
  EXPECT_STREQ(properties.name, "stillpoint emulation");
  EXPECT_EQ(cudaDeviceGetAttribute(&value, cudaDevAttrWarpSize, 0), cudaSuccess);
  EXPECT_EQ(value, properties.warpSize);
}

}  // namespace
}  // namespace stillpoint::emulation
