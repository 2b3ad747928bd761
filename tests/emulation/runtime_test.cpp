// The emulated runtime runs work as late and in as odd an order as its dependencies allow, so that
// code which forgets one is found out.
#include <cuda_runtime.h>
#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <vector>

#include "engine/device.h"
#include "kernels/common/sanitizer.h"
#include "kernels/emulation/emulation.h"
#include "tests/emulation/planted_device.h"

namespace {

namespace emulation = stillpoint::emulation;
using testing::HasSubstr;
using testing::StartsWith;

constexpr int kN = 256;
constexpr size_t kBytes = kN * sizeof(float);
constexpr int kSeeds = 20;

class Runtime : public testing::Test {
 protected:
  Runtime() {
    emulation::reset();
    for (float*& p : device_) EXPECT_EQ(cudaMalloc(&p, kBytes), cudaSuccess);
    for (cudaStream_t& s : streams_) {
      EXPECT_EQ(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking), cudaSuccess);
    }
    EXPECT_EQ(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming), cudaSuccess);
    EXPECT_EQ(cudaMallocHost(&pinned_, kBytes), cudaSuccess);
  }
  ~Runtime() override {
    emulation::reset();
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
      emulation::reset();
      emulation::set_seed(seed);
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

// A producer and a consumer on two streams.
class TwoStreams : public Runtime {
 protected:
  std::vector<float> produce_and_consume(bool wait) {
    upload(device_[0], ramp(1.0f));
    EXPECT_EQ(cudaMemset(device_[1], 0xff, kBytes), cudaSuccess);
    EXPECT_EQ(cudaMemset(device_[2], 0xff, kBytes), cudaSuccess);
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    copy_kernel(device_[0], device_[1], streams_[0]);
    EXPECT_EQ(cudaEventRecord(event_, streams_[0]), cudaSuccess);
    if (wait) {
      EXPECT_EQ(cudaStreamWaitEvent(streams_[1], event_), cudaSuccess);
    }
    copy_kernel(device_[1], device_[2], streams_[1]);
    EXPECT_EQ(cudaStreamSynchronize(streams_[1]), cudaSuccess);
    return download(device_[2]);
  }
};

TEST_F(TwoStreams, AreOrderedByAnEvent) {
  EXPECT_EQ(wrong([&] { return produce_and_consume(true) != ramp(1.0f); }), 0);
}

TEST_F(TwoStreams, MissingEventWaitIsCaught) {
  EXPECT_GE(wrong([&] { return produce_and_consume(false) != ramp(1.0f); }), kSeeds / 2);
}

TEST_F(Runtime, MissingSynchronisationIsCaughtEveryTime) {
  upload(device_[0], ramp(1.0f));
  EXPECT_EQ(
      wrong([&] {
        std::vector<float> host(kN, 0.0f);
        EXPECT_EQ(
            cudaMemcpyAsync(host.data(), device_[0], kBytes, cudaMemcpyDeviceToHost, streams_[0]),
            cudaSuccess);
        const bool nan = std::all_of(host.begin(), host.end(), [](float v) { return v != v; });
        EXPECT_EQ(cudaStreamSynchronize(streams_[0]), cudaSuccess);
        EXPECT_EQ(host, ramp(1.0f));
        return nan;
      }),
      kSeeds);
}

TEST_F(Runtime, SynchronisingTheOtherStreamIsCaught) {
  upload(device_[0], ramp(1.0f));
  EXPECT_GE(wrong([&] {
              std::vector<float> host(kN, 0.0f);
              EXPECT_EQ(cudaMemcpyAsync(host.data(), device_[0], kBytes, cudaMemcpyDeviceToHost,
                                        streams_[0]),
                        cudaSuccess);
              copy_kernel(device_[0], device_[1], streams_[1]);
              EXPECT_EQ(cudaStreamSynchronize(streams_[1]), cudaSuccess);
              const bool early = host != ramp(1.0f);
              EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
              return early;
            }),
            kSeeds / 2);
}

// The default stream does not wait for streams made non-blocking.
TEST_F(Runtime, CudaMemcpyThatDoesNotWaitForTheStreamIsCaught) {
  EXPECT_GE(wrong([&] {
              upload(device_[0], ramp(1.0f));
              upload(device_[1], ramp(0.0f));
              copy_kernel(device_[0], device_[1], streams_[0]);
              return download(device_[1]) != ramp(1.0f);
            }),
            kSeeds / 2);
}

TEST_F(Runtime, BlockingStreamIsOrderedWithTheDefaultStream) {
  cudaStream_t blocking = nullptr;
  ASSERT_EQ(cudaStreamCreate(&blocking), cudaSuccess);
  EXPECT_EQ(wrong([&] {
              upload(device_[0], ramp(1.0f));
              upload(device_[1], ramp(0.0f));
              copy_kernel(device_[0], device_[1], blocking);
              return download(device_[1]) != ramp(1.0f);
            }),
            0);
  EXPECT_EQ(cudaStreamDestroy(blocking), cudaSuccess);
}

TEST_F(Runtime, HostBufferReusedTooEarlyIsCaughtByName) {
  for (int seed = 0; seed < kSeeds; ++seed) {
    emulation::reset();
    emulation::set_seed(seed);
    std::fill_n(pinned_, kN, 1.0f);
    ASSERT_EQ(cudaMemcpyAsync(device_[0], pinned_, kBytes, cudaMemcpyHostToDevice, streams_[0]),
              cudaSuccess);
    pinned_[7] = 2.0f;
    EXPECT_NE(cudaStreamSynchronize(streams_[0]), cudaSuccess);
    EXPECT_THAT(emulation::last_error_message(), StartsWith("source reused too early"));
  }
}

// What the stream itself does to the host's memory before a copy's turn comes is no reuse.
TEST_F(Runtime, HostBufferUsedInStreamOrderIsLeftAlone) {
  const auto ran_well = [&](const char* what, float wanted) {
    ASSERT_EQ(cudaStreamSynchronize(streams_[0]), cudaSuccess) << emulation::last_error_message();
    EXPECT_EQ(download(device_[1]), ramp(wanted)) << what;
  };
  const auto to_device = [&] {
    ASSERT_EQ(cudaMemcpyAsync(device_[1], pinned_, kBytes, cudaMemcpyHostToDevice, streams_[0]),
              cudaSuccess);
  };
  const auto to_host = [&] {
    ASSERT_EQ(cudaMemcpyAsync(pinned_, device_[0], kBytes, cudaMemcpyDeviceToHost, streams_[0]),
              cudaSuccess);
  };
  const auto fill = [](void* p) { std::copy_n(ramp(3.0f).data(), kN, static_cast<float*>(p)); };
  for (int seed = 0; seed < kSeeds; ++seed) {
    emulation::reset();
    emulation::set_seed(seed);
    upload(device_[0], ramp(1.0f));
    to_host();
    to_device();
    ran_well("copied there and back", 1.0f);

    std::fill_n(pinned_, kN, 0.0f);
    ASSERT_EQ(cudaLaunchHostFunc(streams_[0], fill, pinned_), cudaSuccess);
    to_device();
    ran_well("filled by a host function", 3.0f);

    std::copy_n(ramp(5.0f).data(), kN, pinned_);
    to_device();
    to_host();
    ran_well("overwritten by a later copy", 5.0f);
    EXPECT_EQ(std::vector<float>(pinned_, pinned_ + kN), ramp(1.0f));
  }
}

TEST_F(Runtime, HostFunctionThatWaitsForItsOwnStreamIsADeadlock) {
  for (const bool whole_device : {false, true}) {
    emulation::reset();
    static cudaStream_t own;
    own = streams_[0];
    const cudaHostFn_t wait_for_stream = [](void*) { (void)cudaStreamSynchronize(own); };
    const cudaHostFn_t wait_for_device = [](void*) { (void)cudaDeviceSynchronize(); };
    ASSERT_EQ(cudaLaunchHostFunc(own, whole_device ? wait_for_device : wait_for_stream, nullptr),
              cudaSuccess);
    EXPECT_EQ(cudaStreamSynchronize(own), cudaErrorUnknown);
    EXPECT_THAT(emulation::last_error_message(), StartsWith("deadlock: "));
  }
}

TEST_F(Runtime, DeviceBufferReusedTooEarlyIsCaught) {
  const auto reuse = [&](bool wait) {
    upload(device_[0], ramp(1.0f));
    copy_kernel(device_[0], device_[1], streams_[0]);  // still reads device_[0] ...
    EXPECT_EQ(cudaEventRecord(event_, streams_[0]), cudaSuccess);
    if (wait) {
      EXPECT_EQ(cudaStreamWaitEvent(streams_[1], event_), cudaSuccess);
    }
    EXPECT_EQ(cudaMemsetAsync(device_[0], 0, kBytes, streams_[1]), cudaSuccess);  // ... and here
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    return download(device_[1]) != ramp(1.0f);
  };
  EXPECT_EQ(wrong([&] { return reuse(true); }), 0);
  EXPECT_GE(wrong([&] { return reuse(false); }), kSeeds / 4);
}

TEST_F(Runtime, HostAccessToDeviceMemoryEndsTheProgram) {
  const auto read = [&] { return *const_cast<volatile float*>(device_[0] + 3); };
  EXPECT_DEATH((void)read(), "host code touched device memory byte 12 of device allocation");
}

TEST_F(Runtime, QueriesFindWorkUndoneThenDone) {
  EXPECT_EQ(cudaStreamQuery(streams_[0]), cudaSuccess);
  EXPECT_EQ(cudaEventQuery(event_), cudaSuccess);
  copy_kernel(device_[0], device_[1], streams_[0]);
  ASSERT_EQ(cudaEventRecord(event_, streams_[0]), cudaSuccess);
  int not_ready = 0;
  while (cudaEventQuery(event_) == cudaErrorNotReady) ++not_ready;
  EXPECT_GT(not_ready, 0);
  EXPECT_EQ(cudaStreamQuery(streams_[0]), cudaSuccess);
  EXPECT_EQ(emulation::counters().launches, 1);
}

TEST_F(Runtime, EventsTellTime) {
  cudaEvent_t begin = nullptr, end = nullptr;
  ASSERT_EQ(cudaEventCreate(&begin), cudaSuccess);
  ASSERT_EQ(cudaEventCreate(&end), cudaSuccess);
  float milliseconds = -1.0f;
  EXPECT_EQ(cudaEventElapsedTime(&milliseconds, begin, end), cudaErrorInvalidResourceHandle);
  EXPECT_EQ(cudaGetLastError(), cudaErrorInvalidResourceHandle);
  ASSERT_EQ(cudaEventRecord(begin, streams_[0]), cudaSuccess);
  copy_kernel(device_[0], device_[1], streams_[0]);
  ASSERT_EQ(cudaEventRecord(end, streams_[0]), cudaSuccess);
  EXPECT_EQ(cudaEventElapsedTime(&milliseconds, begin, end), cudaErrorNotReady);
  ASSERT_EQ(cudaEventSynchronize(end), cudaSuccess);
  EXPECT_EQ(cudaEventElapsedTime(&milliseconds, begin, end), cudaSuccess);
  EXPECT_GT(milliseconds, 0.0f);
  EXPECT_EQ(cudaEventDestroy(begin), cudaSuccess);
  EXPECT_EQ(cudaEventDestroy(end), cudaSuccess);
  EXPECT_EQ(cudaEventDestroy(end), cudaErrorInvalidResourceHandle);
}

TEST_F(Runtime, HostFunctionRunsInStreamOrder) {
  static bool kernel_ran = false;
  copy_kernel(device_[0], device_[1], streams_[0]);
  ASSERT_EQ(
      cudaLaunchHostFunc(
          streams_[0], [](void*) { kernel_ran = emulation::counters().launches == 1; }, nullptr),
      cudaSuccess);
  EXPECT_FALSE(kernel_ran);
  ASSERT_EQ(cudaStreamSynchronize(streams_[0]), cudaSuccess);
  EXPECT_TRUE(kernel_ran);
}

TEST_F(Runtime, LibraryTwinRunsWhenTheStreamGetsToIt) {
  upload(device_[0], ramp(1.0f));
  float* to = device_[1];
  const float* from = device_[0];
  ASSERT_EQ(emulation::enqueue(
                streams_[0], "double",
                [=] { std::transform(from, from + kN, to, [](float v) { return 2 * v; }); }),
            cudaSuccess);
  EXPECT_EQ(emulation::counters().library_calls, 0);
  ASSERT_EQ(cudaStreamSynchronize(streams_[0]), cudaSuccess);
  EXPECT_EQ(emulation::counters().library_calls, 1);
  EXPECT_FLOAT_EQ(download(to)[5], 12.0f);
}

TEST_F(Runtime, StreamDestroyedWithWorkStillRunsIt) {
  upload(device_[0], ramp(1.0f));
  cudaStream_t stream = nullptr;
  ASSERT_EQ(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), cudaSuccess);
  copy_kernel(device_[0], device_[1], stream);
  ASSERT_EQ(cudaStreamDestroy(stream), cudaSuccess);
  EXPECT_EQ(cudaStreamSynchronize(stream), cudaErrorInvalidResourceHandle);
  ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  EXPECT_EQ(download(device_[1]), ramp(1.0f));
}

TEST_F(Runtime, CopiesAreChecked) {
  std::vector<float> host(kN + 1);
  EXPECT_EQ(cudaMemcpy(device_[0], host.data(), kBytes + 4, cudaMemcpyHostToDevice),
            cudaErrorInvalidValue);
  EXPECT_THAT(emulation::last_error_message(), HasSubstr("1028 bytes written byte 0 of device"));
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
    emulation::reset();
    ASSERT_EQ(emulation::take_block(streams_[0], device_[1], 100, kBytes), cudaSuccess);
    launch("copies");
    ASSERT_NE(cudaStreamSynchronize(streams_[0]), cudaSuccess);
  };
  const auto use_after_return = [&] {
    emulation::reset();
    ASSERT_EQ(emulation::take_block(streams_[0], device_[1], kBytes, kBytes), cudaSuccess);
    launch("copies");  // the block goes back after this one has run, not before
    ASSERT_EQ(emulation::return_block(streams_[0], device_[1], kBytes), cudaSuccess);
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
      emulation::last_error_message(),
      StartsWith("device memory out of bounds in kernel copies: written 0 bytes past the end "
                 "of a block of 100 bytes in device allocation"));
  use_after_return();
  EXPECT_THAT(emulation::last_error_message(),
              HasSubstr("written byte 0 of a block that was given back, in device allocation"));
  emulation::reset();
  ASSERT_EQ(emulation::take_block(streams_[0], device_[1], kBytes, kBytes), cudaSuccess);
  ASSERT_EQ(cudaStreamSynchronize(streams_[0]), cudaSuccess);
  for (const float value : download(device_[1])) EXPECT_NE(value, value);
#endif
  emulation::reset();
  EXPECT_EQ(emulation::take_block(streams_[0], device_[1] + 1, kBytes, kBytes),
            cudaErrorInvalidValue);
}

// A kernel writes past an array whose address it found in memory, so that only a look at all memory
// can tell; and what comes next would wipe the traces, or end the time in which they are looked
// for.
TEST_F(Runtime, StrayWriteIsSeenBeforeItsTracesAreGone) {
  const auto write = [&](float* target) {
    emulation::reset();
    EXPECT_EQ(emulation::take_block(streams_[0], device_[1], 100, kBytes), cudaSuccess);
    std::memcpy(pinned_, &target, sizeof target);
    EXPECT_EQ(
        cudaMemcpyAsync(device_[0], pinned_, sizeof target, cudaMemcpyHostToDevice, streams_[0]),
        cudaSuccess);
    EXPECT_TRUE(planted::run("write_through_table", device_[0], device_[2], streams_[0]).ok());
  };
  const auto caught = [&](cudaError_t code, const char* where) {
    EXPECT_EQ(code, cudaErrorIllegalAddress);
    EXPECT_THAT(emulation::last_error_message(), StartsWith("device memory out of bounds"));
    EXPECT_THAT(emulation::last_error_message(), HasSubstr(where));
  };
#ifdef STILLPOINT_ASAN
  EXPECT_DEATH((write(device_[1] + 25), caught(cudaStreamSynchronize(streams_[0]), "")),
               "use-after-poison");
#else
  write(device_[1] + 25);
  ASSERT_EQ(emulation::return_block(streams_[0], device_[1], kBytes), cudaSuccess);
  caught(cudaStreamSynchronize(streams_[0]),
         "written 0 bytes past the end of a block of 100 bytes");

  write(device_[1] + 250);  // at the far end of the red zone
  ASSERT_EQ(emulation::take_block(streams_[0], device_[1], kBytes, kBytes), cudaSuccess);
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

TEST_F(Runtime, LaunchesAreChecked) {
  using namespace stillpoint::kernels;
  const auto refused = [](Status status) {
    EXPECT_EQ(status.code, cudaErrorInvalidConfiguration);
    EXPECT_STREQ(status.call, "empty_kernel");
  };
  refused(planted::launch_empty(0, 32, 0, streams_[0]));
  refused(planted::launch_empty(1, 0, 0, streams_[0]));
  refused(planted::launch_empty(1, 1025, 0, streams_[0]));
  EXPECT_THAT(emulation::last_error_message(),
              HasSubstr("launch of kernel empty_kernel: grid (0,1,1)"));
  EXPECT_TRUE(planted::launch_empty(1, 32, 232448, streams_[0]).ok());
  EXPECT_EQ(planted::launch_empty(1, 32, 232449, streams_[0]).code, cudaErrorInvalidValue);
  EXPECT_EQ(cudaStreamSynchronize(streams_[0]), cudaSuccess);
  EXPECT_EQ(emulation::counters().launches, 1);
}

TEST_F(Runtime, MemoryRunsOut) {
  emulation::set_memory_limit(1 << 20);
  void* p = nullptr;
  EXPECT_EQ(cudaMalloc(&p, 2 << 20), cudaErrorMemoryAllocation);
  EXPECT_EQ(p, nullptr);
  EXPECT_STREQ(cudaGetErrorName(cudaGetLastError()), "cudaErrorMemoryAllocation");
  size_t free_bytes = 0, total = 0;
  EXPECT_EQ(cudaMemGetInfo(&free_bytes, &total), cudaSuccess);
  EXPECT_EQ(total, size_t{1} << 20);
  EXPECT_EQ(free_bytes, total - 3 * kBytes);
  emulation::reset();
  EXPECT_EQ(cudaMalloc(&p, 2 << 20), cudaSuccess);
  EXPECT_EQ(cudaFree(p), cudaSuccess);
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
  emulation::reset();
  EXPECT_EQ(cudaMalloc(&p, 16), cudaSuccess);
  EXPECT_EQ(cudaFree(p), cudaSuccess);
}

// Tests of the CUDA backend skip where there is no device: here none may.
TEST_F(Runtime, EngineFindsTheDevice) {
  EXPECT_TRUE(stillpoint::available(stillpoint::Device::cuda));
}

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
