#include "engine/memory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <vector>

#include "engine/tensor.h"
#include "kernels/common/sanitizer.h"

namespace stillpoint {
namespace {

std::vector<Device> devices() {
  return available(Device::cuda) ? std::vector{Device::cpu, Device::cuda}
                                 : std::vector{Device::cpu};
}

TEST(Memory, CountsLiveAndPeakBytes) {
  for (const Device device : devices()) {
    const int64_t before = memory_stats(device).live;
    reset_peak_memory(device);
    {
      const Block a = allocate(1000, device);
      EXPECT_GE(memory_stats(device).live, before + 1000);
      { const Block b = allocate(1 << 20, device); }
    }
    EXPECT_EQ(memory_stats(device).live, before);
    EXPECT_GE(memory_stats(device).peak, before + 1000 + (1 << 20));
    EXPECT_LT(memory_stats(device).peak, before + 2 * (1 << 20));
    reset_peak_memory(device);
    EXPECT_EQ(memory_stats(device).peak, before);
  }
}

TEST(Memory, HandsFreedBlocksOutAgain) {
  for (const Device device : devices()) {
    const void* first = allocate(5000, device).get();
    const int64_t reserved = memory_stats(device).reserved;
    EXPECT_EQ(allocate(5000, device).get(), first);
    EXPECT_EQ(memory_stats(device).reserved, reserved);
  }
}

TEST(Memory, ReturnsCachedBlocksOnRequest) {
  for (const Device device : devices()) {
    { const Block b = allocate(3 << 20, device); }
    const int64_t reserved = memory_stats(device).reserved;
    release_cached_memory(device);
    EXPECT_LE(memory_stats(device).reserved, reserved - (3 << 20));
  }
}

TEST(Memory, RefusesImpossibleSizes) {
  for (const Device device : devices()) {
    EXPECT_THROW((void)allocate(std::numeric_limits<int64_t>::max(), device), DeviceError);
    EXPECT_THROW((void)allocate(-1, device), DeviceError);
  }
}

TEST(Memory, BlocksWithoutBytesExist) {
  for (const Device device : devices()) {
    const Block a = allocate(0, device), b = allocate(0, device);
    EXPECT_NE(a.get(), nullptr);
    EXPECT_NE(a.get(), b.get());
  }
}

TEST(Memory, BlocksAreAlignedForVectors) {
  for (const int64_t bytes : {0, 1, 3, 64, 1000, 100000})
    EXPECT_EQ(reinterpret_cast<uintptr_t>(allocate(bytes, Device::cpu).get()) % 64, 0u);
}

#if defined(STILLPOINT_CUDA_EMULATED) && !defined(STILLPOINT_ASAN)
TEST(MemoryDeathTest, CanaryCatchesAWritePastTheEnd) {
  EXPECT_DEATH(
      {
        Block b = allocate(100, Device::cpu);
        static_cast<volatile char*>(b.get())[101] = 1;
        b.reset();
      },
      "byte 1 past the end of a block of 100 was written");
}

TEST(Memory, FreshBlocksHoldNaN) {
  { const Tensor t = Tensor::full({300}, 1.0); }
  for (const float x : Tensor::empty({300}).to_vector<float>()) ASSERT_TRUE(x != x);
  release_cached_memory(Device::cpu);  // so that this one is new: pages of zeros, by the system
  for (const float x : Tensor::empty({1 << 22}).to_vector<float>()) ASSERT_TRUE(x != x);
}
#endif

#if defined(STILLPOINT_ASAN)
TEST(MemoryDeathTest, SanitizerSeesUseAfterFreeInsideTheArena) {
  EXPECT_DEATH(
      {
        Block b = allocate(100, Device::cpu);
        volatile char* p = static_cast<volatile char*>(b.get());
        b.reset();
        p[5] = 1;
      },
      "use-after-poison");
}

TEST(MemoryDeathTest, SanitizerSeesAWritePastTheEnd) {
  EXPECT_DEATH(
      {
        const Block b = allocate(100, Device::cpu);
        static_cast<volatile char*>(b.get())[104] = 1;
      },
      "use-after-poison");
}
#endif

}  // namespace
}  // namespace stillpoint
