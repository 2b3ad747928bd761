// The race check names what the instrumented kernels do wrong, and where in the source.
#include <gmock/gmock.h>

#include "tests/emulation/planted_device.h"

namespace {

using namespace stillpoint::emulation;
using testing::ContainsRegex;
using testing::HasSubstr;
using testing::StartsWith;

class CaughtByTheRaceCheck : public testing::TestWithParam<Named> {};

TEST_P(CaughtByTheRaceCheck, ByName) {
  const Named& bug = GetParam();
  PlantedDevice device;
  for (int seed = 0; seed < 5; ++seed) {
    const Outcome outcome = device.run(planted_watched::run, bug.kernel, seed);
    ASSERT_EQ(outcome.code, bug.code) << outcome.message;
    ASSERT_THAT(outcome.message,
                ContainsRegex("^(" + std::string(bug.check) + ") in kernel " + bug.kernel));
    ASSERT_THAT(outcome.message, HasSubstr(bug.detail));
    // The place: file, line and function.
    ASSERT_THAT(outcome.message, ContainsRegex("at planted\\.cu:[0-9]+ \\("));
  }
}

constexpr cudaError_t kFailure = cudaErrorLaunchFailure, kAddress = cudaErrorIllegalAddress;
INSTANTIATE_TEST_SUITE_P(
    Kernels, CaughtByTheRaceCheck,
    testing::Values(
        // Who reads before the other has written finds poison; who reads after it, the race.
        Named{"missing_syncthreads", kFailure, "race in shared memory|uninitialised shared memory",
              "buffer (1024 bytes)"},
        Named{"missing_syncwarp", kFailure, "race in shared memory|uninitialised shared memory",
              "buffer (1024 bytes)"},
        Named{"missing_second_syncthreads", kFailure, "race in shared memory", "nothing orders"},
        Named{"shuffle_as_fence", kFailure, "race in shared memory|uninitialised shared memory",
              "buffer (1024 bytes)"},
        Named{"everybody_writes_one", kFailure, "race in shared memory", "wrote it at planted.cu"},
        Named{"lost_update", kFailure, "race in device memory", "at planted.cu"},
        Named{"blocks_overlap", kFailure, "race in device memory", "another block wrote it"},
        Named{"in_place", kFailure, "race in device memory", "another block"},
        Named{"plain_beside_atomic", kFailure, "race in device memory", "byte 0 of device"},
        Named{"uninitialised_shared", kFailure, "uninitialised shared memory",
              "reads byte 1024 of buffer (1028 bytes)"},
        Named{"dynamic_shared_past_end", kAddress, "shared memory out of bounds",
              "writes byte 1024 of dynamic shared memory (1024 bytes)"},
        Named{"write_past_end", kAddress, "device memory out of bounds",
              "writes 0 bytes past the end of device allocation"},
        Named{"read_past_end", kAddress, "device memory out of bounds",
              "reads 4 bytes past the end of device allocation"},
        Named{"write_before_start", kAddress, "device memory out of bounds",
              "writes 4 bytes before the start of device allocation"}),
    [](const auto& test) { return std::string(test.param.kernel); });

class WatchedKernel : public testing::Test {
 protected:
  // Runs a watched kernel from `x` to `y` and returns what is said about it.
  std::string run(std::string_view kernel, float* x, float* y) {
    EXPECT_TRUE(planted_watched::run(kernel, x, y, device_.stream()).ok());
    EXPECT_NE(cudaStreamSynchronize(device_.stream()), cudaSuccess);
    return last_error_message();
  }
  void fill(float* x) {
    EXPECT_EQ(cudaMemset(x, 0, kPlantedSize * sizeof(float)), cudaSuccess);
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  }
  PlantedDevice device_;
};

TEST_F(WatchedKernel, ThatReadsFreshDeviceMemoryIsCaught) {
  EXPECT_THAT(run("uninitialised_device", device_.x(), device_.y()),
              StartsWith("uninitialised device memory in kernel uninitialised_device"));
}

TEST_F(WatchedKernel, ThatUsesFreedMemoryIsCaught) {
  float* freed = nullptr;
  ASSERT_EQ(cudaMalloc(&freed, 4096), cudaSuccess);
  ASSERT_EQ(cudaFree(freed), cudaSuccess);
  fill(device_.x());
  EXPECT_THAT(run("copies", device_.x(), freed), HasSubstr("of freed device allocation"));
}

TEST_F(WatchedKernel, ThatTouchesHostMemoryIsCaught) {
  std::vector<float> host(kPlantedSize);
  EXPECT_THAT(run("copies", host.data(), device_.y()), StartsWith("host memory in kernel copies"));
  reset();
  static float variable[kPlantedSize];
  EXPECT_THAT(run("copies", variable, device_.y()), StartsWith("host memory in kernel copies"));
}

// A copy leaves what was never written as unwritten as it was.
TEST_F(WatchedKernel, ThatReadsACopyOfFreshDeviceMemoryIsCaught) {
  constexpr size_t kBytes = kPlantedSize * sizeof(float);
  float* fresh = nullptr;
  ASSERT_EQ(cudaMalloc(&fresh, kBytes), cudaSuccess);
  fill(device_.x());
  ASSERT_EQ(cudaMemset(fresh, 0, kBytes / 8), cudaSuccess);  // half of what `copies` reads
  ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  ASSERT_EQ(cudaMemcpyAsync(device_.x(), fresh, kBytes, cudaMemcpyDeviceToDevice, device_.stream()),
            cudaSuccess);
  const std::string said = run("copies", device_.x(), device_.y());
  EXPECT_THAT(said, StartsWith("uninitialised device memory in kernel copies"));
  EXPECT_THAT(said, ContainsRegex("reads byte (5[12]|[6-9])"));
  reset();
  EXPECT_EQ(cudaFree(fresh), cudaSuccess);
}

TEST_F(WatchedKernel, CopiesOfWhatWasGivenBackAreCaught) {
  constexpr size_t kBytes = kPlantedSize * sizeof(float);
  const cudaStream_t stream = device_.stream();
  const auto refused = [&](cudaError_t submitted) {
    EXPECT_EQ(submitted, cudaSuccess);
    EXPECT_EQ(cudaStreamSynchronize(stream), cudaErrorIllegalAddress);
    EXPECT_THAT(last_error_message(),
                ContainsRegex("^device memory out of bounds: .*a block that was given back"));
    reset();
  };
  ASSERT_EQ(take_block(stream, device_.x(), kBytes, kBytes), cudaSuccess);
  ASSERT_EQ(return_block(stream, device_.x(), kBytes), cudaSuccess);
  ASSERT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
  std::vector<float> host(kPlantedSize);
  refused(cudaMemcpyAsync(device_.y(), device_.x(), kBytes, cudaMemcpyDeviceToDevice, stream));
  refused(cudaMemcpyAsync(device_.x(), device_.y(), kBytes, cudaMemcpyDeviceToDevice, stream));
  refused(cudaMemcpyAsync(device_.x(), host.data(), kBytes, cudaMemcpyHostToDevice, stream));
  refused(cudaMemcpyAsync(host.data(), device_.x(), kBytes, cudaMemcpyDeviceToHost, stream));
  refused(cudaMemsetAsync(device_.x(), 0, kBytes, stream));
}

}  // namespace
