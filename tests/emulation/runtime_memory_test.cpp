// Copies, blocks and kernels of the emulated runtime that leave the memory that is theirs.
#include <cstring>

#include "kernels/common/sanitizer.h"
#include "tests/emulation/runtime_fixture.h"

namespace stillpoint::emulation {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

TEST_F(Runtime, CopiesAreChecked) {
  std::vector<float> host(kN + 1);
  EXPECT_EQ(cudaMemcpy(device_[0], host.data(), kBytes + 4, cudaMemcpyHostToDevice),
            cudaErrorInvalidValue);
  EXPECT_THAT(last_error_message(), HasSubstr("1028 bytes written byte 0 of device"));
  EXPECT_EQ(cudaGetLastError(), cudaErrorInvalidValue);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
  EXPECT_THAT(cudaGetErrorString(cudaErrorInvalidValue), HasSubstr("1028 bytes written"));
  EXPECT_EQ(cudaMemcpy(host.data(), device_[0] + 1, kBytes, cudaMemcpyDeviceToHost),
            cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemcpy(host.data(), device_[0], kBytes, cudaMemcpyHostToDevice),
            cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemset(device_[0], 0, kBytes + 1), cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemset(host.data(), 0, 4), cudaErrorInvalidValue);
  EXPECT_EQ(cudaFree(device_[0] + 1), cudaErrorInvalidValue);
  EXPECT_EQ(cudaFree(nullptr), cudaSuccess);
}

// An allocator's block: out of bounds past its bytes, NaN when taken, closed when given back.
TEST_F(Runtime, BlocksOfAnAllocatorAreChecked) {
  const auto launch = [&](const char* kernel) {
    ASSERT_TRUE(planted::run(kernel, device_[0], device_[1], streams_[0]).ok());
  };
  const auto write_past_block = [&] {
    reset();
    ASSERT_EQ(take_block(streams_[0], device_[1], 100, kBytes), cudaSuccess);
    launch("copies");
    ASSERT_NE(cudaStreamSynchronize(streams_[0]), cudaSuccess);
  };
  const auto use_after_return = [&] {
    reset();
    ASSERT_EQ(take_block(streams_[0], device_[1], kBytes, kBytes), cudaSuccess);
    launch("copies");  // the block goes back after this one has run, not before
    ASSERT_EQ(return_block(streams_[0], device_[1], kBytes), cudaSuccess);
    ASSERT_EQ(cudaStreamSynchronize(streams_[0]), cudaSuccess);
    launch("copies");
    ASSERT_NE(cudaStreamSynchronize(streams_[0]), cudaSuccess);
  };
#ifdef STILLPOINT_ASAN
  EXPECT_DEATH(write_past_block(), "use-after-poison");
  EXPECT_DEATH(use_after_return(), "use-after-poison");
#else
  write_past_block();
  EXPECT_THAT(
      last_error_message(),
      StartsWith("device memory out of bounds in kernel copies: written 0 bytes past the end "
                 "of a block of 100 bytes in device allocation"));
  use_after_return();
  EXPECT_THAT(last_error_message(),
              HasSubstr("written byte 0 of a block that was given back, in device allocation"));
  reset();
  ASSERT_EQ(take_block(streams_[0], device_[1], kBytes, kBytes), cudaSuccess);
  ASSERT_EQ(cudaStreamSynchronize(streams_[0]), cudaSuccess);
  for (const float value : download(device_[1])) EXPECT_NE(value, value);
#endif
  reset();
  EXPECT_EQ(take_block(streams_[0], device_[1] + 1, kBytes, kBytes), cudaErrorInvalidValue);
}

// A kernel writes past an array whose address it found in memory, so that only a look at all memory
// can tell; and what comes next would wipe the traces, or end the time in which they are looked
// for.
TEST_F(Runtime, StrayWriteIsSeenBeforeItsTracesAreGone) {
  const auto write = [&](float* target) {
    reset();
    EXPECT_EQ(take_block(streams_[0], device_[1], 100, kBytes), cudaSuccess);
    std::memcpy(pinned_, &target, sizeof target);
    EXPECT_EQ(
        cudaMemcpyAsync(device_[0], pinned_, sizeof target, cudaMemcpyHostToDevice, streams_[0]),
        cudaSuccess);
    EXPECT_TRUE(planted::run("write_through_table", device_[0], device_[2], streams_[0]).ok());
  };
  const auto caught = [&](cudaError_t code, const char* where) {
    EXPECT_EQ(code, cudaErrorIllegalAddress);
    EXPECT_THAT(last_error_message(), StartsWith("device memory out of bounds"));
    EXPECT_THAT(last_error_message(), HasSubstr(where));
  };
#ifdef STILLPOINT_ASAN
  EXPECT_DEATH((write(device_[1] + 25), caught(cudaStreamSynchronize(streams_[0]), "")),
               "use-after-poison");
#else
  write(device_[1] + 25);
  ASSERT_EQ(return_block(streams_[0], device_[1], kBytes), cudaSuccess);
  caught(cudaStreamSynchronize(streams_[0]),
         "written 0 bytes past the end of a block of 100 bytes");

  write(device_[1] + 250);  // at the far end of the red zone
  ASSERT_EQ(take_block(streams_[0], device_[1], kBytes, kBytes), cudaSuccess);
  caught(cudaStreamSynchronize(streams_[0]), "written 900 bytes past the end of a block of 100");

  write(device_[1] + kN + 512);  // 2 KiB past the allocation's own end
  static bool ran;
  ran = false;
  ASSERT_EQ(cudaLaunchHostFunc(
                streams_[0], [](void*) { ran = true; }, nullptr),
            cudaSuccess);
  caught(cudaStreamSynchronize(streams_[0]),
         "written 2048 bytes past the end of device allocation");
  EXPECT_FALSE(ran);

  write(device_[1] + kN);
  cudaError_t code = cudaErrorNotReady;
  while (code == cudaErrorNotReady) code = cudaStreamQuery(streams_[0]);
  caught(code, "written 0 bytes past the end of device allocation");
#endif
}

TEST_F(Runtime, MemoryRunsOut) {
  set_memory_limit(1 << 20);
  void* p = nullptr;
  EXPECT_EQ(cudaMalloc(&p, 2 << 20), cudaErrorMemoryAllocation);
  EXPECT_EQ(p, nullptr);
  EXPECT_STREQ(cudaGetErrorName(cudaGetLastError()), "cudaErrorMemoryAllocation");
  size_t free_bytes = 0, total = 0;
  EXPECT_EQ(cudaMemGetInfo(&free_bytes, &total), cudaSuccess);
  EXPECT_EQ(total, size_t{1} << 20);
  EXPECT_EQ(free_bytes, total - 3 * kBytes);
  reset();
  EXPECT_EQ(cudaMalloc(&p, 2 << 20), cudaSuccess);
  EXPECT_EQ(cudaFree(p), cudaSuccess);
}

}  // namespace
}  // namespace stillpoint::emulation
