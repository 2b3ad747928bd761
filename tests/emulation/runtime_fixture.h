// What the tests of the emulated runtime start from.
#pragma once

#include <cuda_runtime.h>
#include <gmock/gmock.h>

#include <functional>
#include <vector>

#include "kernels/emulation/emulation.h"
#include "tests/emulation/planted_device.h"

namespace stillpoint::emulation {

constexpr int kN = 256;
constexpr size_t kBytes = kN * sizeof(float);
constexpr int kSeeds = 20;

class Runtime : public testing::Test {
 protected:
  Runtime() {
    reset();
    for (float*& p : device_) EXPECT_EQ(cudaMalloc(&p, kBytes), cudaSuccess);
    for (cudaStream_t& s : streams_) {
      EXPECT_EQ(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking), cudaSuccess);
    }
    EXPECT_EQ(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming), cudaSuccess);
    EXPECT_EQ(cudaMallocHost(&pinned_, kBytes), cudaSuccess);
  }
  ~Runtime() override {
    reset();
    for (float* p : device_) EXPECT_EQ(cudaFree(p), cudaSuccess);
    for (cudaStream_t s : streams_) EXPECT_EQ(cudaStreamDestroy(s), cudaSuccess);
    EXPECT_EQ(cudaEventDestroy(event_), cudaSuccess);
    EXPECT_EQ(cudaFreeHost(pinned_), cudaSuccess);
  }

  static std::vector<float> ramp(float first) {
    std::vector<float> v(kN);
    for (int i = 0; i < kN; ++i) v[i] = first + static_cast<float>(i);
    return v;
  }
  static void upload(float* to, const std::vector<float>& from) {
    ASSERT_EQ(cudaMemcpy(to, from.data(), kBytes, cudaMemcpyHostToDevice), cudaSuccess);
  }
  static std::vector<float> download(const float* from) {
    std::vector<float> v(kN);
    EXPECT_EQ(cudaMemcpy(v.data(), from, kBytes, cudaMemcpyDeviceToHost), cudaSuccess);
    return v;
  }
  static void copy_kernel(float* from, float* to, cudaStream_t stream) {
    ASSERT_TRUE(planted::run("copies", from, to, stream).ok());
  }
  // In how many of the seeds `body` says that something was wrong.
  static int wrong(const std::function<bool()>& body) {
    int count = 0;
    for (int seed = 0; seed < kSeeds; ++seed) {
      reset();
      set_seed(seed);
      count += body();
      EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    }
    return count;
  }

  float* device_[3] = {};
  cudaStream_t streams_[2] = {};
  cudaEvent_t event_ = nullptr;
  float* pinned_ = nullptr;
};

}  // namespace stillpoint::emulation
