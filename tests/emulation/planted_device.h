// What the tests of the planted kernels share.
#pragma once

#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <ostream>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/emulation/emulation.h"
#include "tests/emulation/planted.h"

struct Outcome {
  cudaError_t code = cudaSuccess;
  std::string message;
  std::vector<float> y;
};

using Runner = stillpoint::kernels::Status (*)(std::string_view, float*, float*,
                                               stillpoint::kernels::Stream);

// A kernel with a bug, and how it is to be caught.
struct Named {
  const char* kernel;
  cudaError_t code;
  const char* check;                // how the message begins
  const char* detail;               // what it says besides
  const char* sanitizer = nullptr;  // what a sanitizer says in its place
};

// ctest lists a test with its parameter.
inline std::ostream& operator<<(std::ostream& out, const Named& bug) { return out << bug.kernel; }

// Two arrays and a stream, on which a test runs one planted kernel at a time.
class PlantedDevice {
 public:
  PlantedDevice() {
    stillpoint::emulation::reset();
    for (int i = 0; i < kPlantedSize; ++i) host_x_.push_back(static_cast<float>(i % 101));
    EXPECT_EQ(cudaMalloc(&x_, kPlantedSize * sizeof(float)), cudaSuccess);
    EXPECT_EQ(cudaMalloc(&y_, kPlantedSize * sizeof(float)), cudaSuccess);
    EXPECT_EQ(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), cudaSuccess);
  }
  ~PlantedDevice() {
    stillpoint::emulation::reset();
    EXPECT_EQ(cudaStreamDestroy(stream_), cudaSuccess);
    EXPECT_EQ(cudaFree(x_), cudaSuccess);
    EXPECT_EQ(cudaFree(y_), cudaSuccess);
  }
  PlantedDevice(const PlantedDevice&) = delete;
  PlantedDevice& operator=(const PlantedDevice&) = delete;

  // x as made here, y zero; then the kernel, and y back.
  Outcome run(Runner runner, std::string_view kernel, uint64_t seed, bool random_order = true) {
    using namespace stillpoint::emulation;
    reset();
    set_seed(seed);
    set_random_order(random_order);
    Outcome outcome;
    constexpr size_t kBytes = kPlantedSize * sizeof(float);
    EXPECT_EQ(cudaMemcpyAsync(x_, host_x_.data(), kBytes, cudaMemcpyHostToDevice, stream_),
              cudaSuccess);
    EXPECT_EQ(cudaMemsetAsync(y_, 0, kBytes, stream_), cudaSuccess);
    EXPECT_TRUE(runner(kernel, x_, y_, stream_).ok());
    outcome.y.resize(kPlantedSize);
    EXPECT_EQ(cudaMemcpyAsync(outcome.y.data(), y_, kBytes, cudaMemcpyDeviceToHost, stream_),
              cudaSuccess);
    outcome.code = cudaStreamSynchronize(stream_);
    outcome.message = last_error_message();
    return outcome;
  }

  const std::vector<float>& host_x() const { return host_x_; }
  float* x() const { return x_; }
  float* y() const { return y_; }
  cudaStream_t stream() const { return stream_; }

 private:
  std::vector<float> host_x_;
  float *x_ = nullptr, *y_ = nullptr;
  cudaStream_t stream_ = nullptr;
};
