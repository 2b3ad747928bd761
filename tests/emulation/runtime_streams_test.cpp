// The emulated runtime runs work as late and in as odd an order as its dependencies allow, so that
// code which forgets one is found out.
#include <algorithm>
#include <cmath>

#include "tests/emulation/runtime_fixture.h"

namespace stillpoint::emulation {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

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
    reset();
    set_seed(seed);
    std::fill_n(pinned_, kN, 1.0f);
    ASSERT_EQ(cudaMemcpyAsync(device_[0], pinned_, kBytes, cudaMemcpyHostToDevice, streams_[0]),
              cudaSuccess);
    pinned_[7] = 2.0f;
    EXPECT_NE(cudaStreamSynchronize(streams_[0]), cudaSuccess);
    EXPECT_THAT(last_error_message(), StartsWith("source reused too early"));
  }
}

// What the stream itself does to the host's memory before a copy's turn comes is no reuse.
TEST_F(Runtime, HostBufferUsedInStreamOrderIsLeftAlone) {
  const auto ran_well = [&](const char* what, float wanted) {
    ASSERT_EQ(cudaStreamSynchronize(streams_[0]), cudaSuccess) << last_error_message();
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
    reset();
    set_seed(seed);
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
    reset();
    static cudaStream_t own;
    own = streams_[0];
    const cudaHostFn_t wait_for_stream = [](void*) { (void)cudaStreamSynchronize(own); };
    const cudaHostFn_t wait_for_device = [](void*) { (void)cudaDeviceSynchronize(); };
    ASSERT_EQ(cudaLaunchHostFunc(own, whole_device ? wait_for_device : wait_for_stream, nullptr),
              cudaSuccess);
    EXPECT_EQ(cudaStreamSynchronize(own), cudaErrorUnknown);
    EXPECT_THAT(last_error_message(), StartsWith("deadlock: "));
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
  EXPECT_EQ(counters().launches, 1);
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
  ASSERT_EQ(cudaLaunchHostFunc(
                streams_[0], [](void*) { kernel_ran = counters().launches == 1; }, nullptr),
            cudaSuccess);
  EXPECT_FALSE(kernel_ran);
  ASSERT_EQ(cudaStreamSynchronize(streams_[0]), cudaSuccess);
  EXPECT_TRUE(kernel_ran);
}

TEST_F(Runtime, LibraryTwinRunsWhenTheStreamGetsToIt) {
  upload(device_[0], ramp(1.0f));
  float* to = device_[1];
  const float* from = device_[0];
  ASSERT_EQ(enqueue(streams_[0], "double",
                    [=] { std::transform(from, from + kN, to, [](float v) { return 2 * v; }); }),
            cudaSuccess);
  EXPECT_EQ(counters().library_calls, 0);
  ASSERT_EQ(cudaStreamSynchronize(streams_[0]), cudaSuccess);
  EXPECT_EQ(counters().library_calls, 1);
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

}  // namespace
}  // namespace stillpoint::emulation
