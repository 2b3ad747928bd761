// Streams captured into graphs, and graphs launched again and again.
#include <cuda_runtime.h>
#include <gmock/gmock.h>

#include <functional>
#include <vector>

#include "kernels/emulation/emulation.h"
#include "tests/emulation/planted_device.h"

namespace {

namespace emulation = stillpoint::emulation;

class Graph : public testing::Test {
 protected:
  Graph() {
    EXPECT_EQ(cudaStreamCreateWithFlags(&second_, cudaStreamNonBlocking), cudaSuccess);
    EXPECT_EQ(cudaEventCreateWithFlags(&fork_, cudaEventDisableTiming), cudaSuccess);
    EXPECT_EQ(cudaEventCreateWithFlags(&join_, cudaEventDisableTiming), cudaSuccess);
    EXPECT_EQ(cudaMalloc(&z_, kPlantedSize * sizeof(float)), cudaSuccess);
  }
  ~Graph() override {
    emulation::reset();
    EXPECT_EQ(cudaStreamDestroy(second_), cudaSuccess);
    EXPECT_EQ(cudaEventDestroy(fork_), cudaSuccess);
    EXPECT_EQ(cudaEventDestroy(join_), cudaSuccess);
    EXPECT_EQ(cudaFree(z_), cudaSuccess);
  }
  void set(float* p, float value) {
    const std::vector<float> host(kPlantedSize, value);
    ASSERT_EQ(cudaMemcpy(p, host.data(), kPlantedSize * sizeof(float), cudaMemcpyHostToDevice),
              cudaSuccess);
  }
  float first(const float* p) {
    float value = 0;
    EXPECT_EQ(cudaMemcpy(&value, p, sizeof value, cudaMemcpyDeviceToHost), cudaSuccess);
    return value;
  }
  void copy(float* from, float* to, cudaStream_t stream) {
    ASSERT_TRUE(planted::run("copies", from, to, stream).ok());
  }
  cudaStream_t stream() const { return device_.stream(); }

  PlantedDevice device_;
  cudaStream_t second_ = nullptr;
  cudaEvent_t fork_ = nullptr, join_ = nullptr;
  float* z_ = nullptr;
};

TEST_F(Graph, RunsWhatWasCapturedAsOftenAsLaunched) {
  ASSERT_EQ(cudaStreamBeginCapture(stream(), cudaStreamCaptureModeGlobal), cudaSuccess);
  cudaStreamCaptureStatus status{};
  ASSERT_EQ(cudaStreamIsCapturing(stream(), &status), cudaSuccess);
  EXPECT_EQ(status, cudaStreamCaptureStatusActive);
  copy(device_.x(), device_.y(), stream());
  copy(device_.y(), z_, stream());
  cudaGraph_t graph = nullptr;
  ASSERT_EQ(cudaStreamEndCapture(stream(), &graph), cudaSuccess);
  ASSERT_EQ(cudaStreamIsCapturing(stream(), &status), cudaSuccess);
  EXPECT_EQ(status, cudaStreamCaptureStatusNone);
  ASSERT_EQ(cudaStreamSynchronize(stream()), cudaSuccess);
  EXPECT_EQ(emulation::counters().launches, 0);  // captured, not run

  cudaGraphExec_t executable = nullptr;
  ASSERT_EQ(cudaGraphInstantiate(&executable, graph), cudaSuccess);
  ASSERT_EQ(cudaGraphDestroy(graph), cudaSuccess);
  for (const float value : {1.0f, 2.0f}) {
    set(device_.x(), value);
    ASSERT_EQ(cudaGraphLaunch(executable, stream()), cudaSuccess);
    ASSERT_EQ(cudaStreamSynchronize(stream()), cudaSuccess);
    EXPECT_EQ(first(z_), value);
  }
  EXPECT_EQ(emulation::counters().launches, 4);
  EXPECT_EQ(cudaGraphExecDestroy(executable), cudaSuccess);
  EXPECT_EQ(cudaGraphLaunch(executable, stream()), cudaErrorInvalidValue);
  EXPECT_EQ(cudaGraphDestroy(graph), cudaErrorInvalidValue);
}

// x -> y on the second stream beside y -> z on the first; `wait` orders them.
class ForkedGraph : public Graph {
 protected:
  int wrong(bool wait) {
    EXPECT_EQ(cudaStreamBeginCapture(stream(), cudaStreamCaptureModeGlobal), cudaSuccess);
    EXPECT_EQ(cudaEventRecord(fork_, stream()), cudaSuccess);
    EXPECT_EQ(cudaStreamWaitEvent(second_, fork_), cudaSuccess);
    copy(device_.x(), device_.y(), second_);
    EXPECT_EQ(cudaEventRecord(join_, second_), cudaSuccess);
    if (wait) {
      EXPECT_EQ(cudaStreamWaitEvent(stream(), join_), cudaSuccess);
    }
    copy(device_.y(), z_, stream());
    if (!wait) {
      EXPECT_EQ(cudaStreamWaitEvent(stream(), join_), cudaSuccess);
    }
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t executable = nullptr;
    EXPECT_EQ(cudaStreamEndCapture(stream(), &graph), cudaSuccess);
    EXPECT_EQ(cudaGraphInstantiate(&executable, graph), cudaSuccess);
    int count = 0;
    for (int seed = 0; seed < 20; ++seed) {
      emulation::set_seed(seed);
      set(device_.x(), 1.0f);
      set(device_.y(), 0.0f);
      EXPECT_EQ(cudaGraphLaunch(executable, stream()), cudaSuccess);
      EXPECT_EQ(cudaStreamSynchronize(stream()), cudaSuccess);
      count += first(z_) != 1.0f;
    }
    EXPECT_EQ(cudaGraphExecDestroy(executable), cudaSuccess);
    EXPECT_EQ(cudaGraphDestroy(graph), cudaSuccess);
    return count;
  }
};

TEST_F(ForkedGraph, KeepsTheOrderOfItsEvents) { EXPECT_EQ(wrong(true), 0); }
TEST_F(ForkedGraph, MissingEventWaitIsCaught) { EXPECT_GE(wrong(false), 5); }

TEST_F(Graph, CaptureIsBrokenByACallThatWaits) {
  ASSERT_EQ(cudaStreamBeginCapture(stream(), cudaStreamCaptureModeGlobal), cudaSuccess);
  EXPECT_EQ(cudaStreamSynchronize(stream()), cudaErrorStreamCaptureUnsupported);
  cudaStreamCaptureStatus status{};
  ASSERT_EQ(cudaStreamIsCapturing(stream(), &status), cudaSuccess);
  EXPECT_EQ(status, cudaStreamCaptureStatusInvalidated);
  cudaGraph_t graph = nullptr;
  EXPECT_EQ(cudaStreamEndCapture(stream(), &graph), cudaErrorStreamCaptureInvalidated);
  EXPECT_EQ(graph, nullptr);
}

TEST_F(Graph, CaptureRefusesAllocation) {
  ASSERT_EQ(cudaStreamBeginCapture(stream(), cudaStreamCaptureModeGlobal), cudaSuccess);
  void* p = nullptr;
  EXPECT_EQ(cudaMalloc(&p, 16), cudaErrorStreamCaptureUnsupported);
  cudaGraph_t graph = nullptr;
  EXPECT_EQ(cudaStreamEndCapture(stream(), &graph), cudaErrorStreamCaptureInvalidated);
}

TEST_F(Graph, ForkThatNeverJoinsIsRefused) {
  ASSERT_EQ(cudaStreamBeginCapture(stream(), cudaStreamCaptureModeGlobal), cudaSuccess);
  ASSERT_EQ(cudaEventRecord(fork_, stream()), cudaSuccess);
  ASSERT_EQ(cudaStreamWaitEvent(second_, fork_), cudaSuccess);
  copy(device_.x(), device_.y(), second_);
  EXPECT_EQ(cudaEventQuery(fork_), cudaErrorCapturedEvent);
  cudaGraph_t graph = nullptr;
  EXPECT_EQ(cudaStreamEndCapture(stream(), &graph), cudaErrorStreamCaptureUnjoined);
  cudaStreamCaptureStatus status{};
  ASSERT_EQ(cudaStreamIsCapturing(second_, &status), cudaSuccess);
  EXPECT_EQ(status, cudaStreamCaptureStatusNone);
}

TEST_F(Graph, WaitingForAnEventOfACaptureThatIsOverIsRefused) {
  cudaStream_t captured = nullptr;
  ASSERT_EQ(cudaStreamCreateWithFlags(&captured, cudaStreamNonBlocking), cudaSuccess);
  ASSERT_EQ(cudaStreamBeginCapture(captured, cudaStreamCaptureModeGlobal), cudaSuccess);
  ASSERT_EQ(cudaEventRecord(fork_, captured), cudaSuccess);
  cudaGraph_t graph = nullptr;
  ASSERT_EQ(cudaStreamEndCapture(captured, &graph), cudaSuccess);
  ASSERT_EQ(cudaGraphDestroy(graph), cudaSuccess);
  EXPECT_EQ(cudaStreamWaitEvent(stream(), fork_), cudaErrorCapturedEvent);
  EXPECT_EQ(cudaEventSynchronize(fork_), cudaErrorCapturedEvent);
  ASSERT_EQ(cudaStreamDestroy(captured), cudaSuccess);
  EXPECT_EQ(cudaStreamWaitEvent(stream(), fork_), cudaErrorCapturedEvent);
  EXPECT_EQ(cudaGetLastError(), cudaErrorCapturedEvent);
  copy(device_.x(), device_.y(), stream());
  EXPECT_EQ(cudaStreamSynchronize(stream()), cudaSuccess);
  EXPECT_EQ(emulation::counters().launches, 1);
}

// It would have to wait for a stream whose work never runs.
TEST_F(Graph, DefaultStreamBesideACapturingBlockingStreamIsRefused) {
  cudaStream_t blocking = nullptr;
  ASSERT_EQ(cudaStreamCreate(&blocking), cudaSuccess);
  const std::vector<std::function<cudaError_t()>> calls = {
      [&] { return cudaMemsetAsync(device_.y(), 0, 4, nullptr); },
      [&] { return cudaMemcpy(device_.y(), device_.x(), 4, cudaMemcpyDeviceToDevice); },
      [&] { return cudaEventRecord(fork_, nullptr); },
      [&] { return cudaStreamSynchronize(nullptr); },
      [&] {
        return static_cast<cudaError_t>(
            planted::run("copies", device_.x(), device_.y(), nullptr).code);
      },
      [&] {  // the default stream itself cannot be captured
        EXPECT_EQ(cudaEventRecord(join_, blocking), cudaSuccess);
        return cudaStreamWaitEvent(nullptr, join_);
      },
  };
  for (const auto& call : calls) {
    ASSERT_EQ(cudaStreamBeginCapture(blocking, cudaStreamCaptureModeGlobal), cudaSuccess);
    EXPECT_EQ(call(), cudaErrorStreamCaptureImplicit);
    cudaGraph_t graph = nullptr;
    EXPECT_EQ(cudaStreamEndCapture(blocking, &graph), cudaErrorStreamCaptureInvalidated);
  }
  EXPECT_EQ(cudaStreamDestroy(blocking), cudaSuccess);
}

// A non-blocking stream has nothing to do with the default stream.
TEST_F(Graph, DefaultStreamBesideACapturingStreamWorks) {
  ASSERT_EQ(cudaStreamBeginCapture(stream(), cudaStreamCaptureModeGlobal), cudaSuccess);
  copy(device_.x(), device_.y(), nullptr);
  EXPECT_EQ(cudaEventRecord(join_, stream()), cudaSuccess);
  EXPECT_EQ(cudaStreamWaitEvent(nullptr, join_), cudaErrorStreamCaptureImplicit);
  cudaGraph_t graph = nullptr;
  EXPECT_EQ(cudaStreamEndCapture(stream(), &graph), cudaErrorStreamCaptureInvalidated);
  EXPECT_EQ(cudaStreamSynchronize(nullptr), cudaSuccess);
  EXPECT_EQ(emulation::counters().launches, 1);
}

TEST_F(Graph, WorkQueuedBeforeTheCaptureIsStillWaitedFor) {
  cudaStream_t blocking = nullptr;
  ASSERT_EQ(cudaStreamCreate(&blocking), cudaSuccess);
  for (int seed = 0; seed < 20; ++seed) {
    emulation::set_seed(seed);
    set(device_.x(), 1.0f);
    set(device_.y(), 0.0f);
    copy(device_.x(), device_.y(), blocking);
    ASSERT_EQ(cudaStreamBeginCapture(blocking, cudaStreamCaptureModeGlobal), cudaSuccess);
    cudaGraph_t graph = nullptr;
    ASSERT_EQ(cudaStreamEndCapture(blocking, &graph), cudaSuccess);
    ASSERT_EQ(cudaGraphDestroy(graph), cudaSuccess);
    EXPECT_EQ(first(device_.y()), 1.0f);
  }
  EXPECT_EQ(cudaStreamDestroy(blocking), cudaSuccess);
}

TEST_F(Graph, ResetEndsCaptures) {
  ASSERT_EQ(cudaStreamBeginCapture(stream(), cudaStreamCaptureModeGlobal), cudaSuccess);
  ASSERT_EQ(cudaEventRecord(fork_, stream()), cudaSuccess);
  ASSERT_EQ(cudaStreamWaitEvent(second_, fork_), cudaSuccess);
  emulation::reset();
  for (const cudaStream_t captured : {stream(), second_}) {
    cudaStreamCaptureStatus status{};
    ASSERT_EQ(cudaStreamIsCapturing(captured, &status), cudaSuccess);
    EXPECT_EQ(status, cudaStreamCaptureStatusNone);
    copy(device_.x(), device_.y(), captured);
    EXPECT_EQ(cudaStreamSynchronize(captured), cudaSuccess);
  }
  EXPECT_EQ(emulation::counters().launches, 2);
}

TEST_F(Graph, EventFromOutsideTheCaptureIsRefused) {
  copy(device_.x(), device_.y(), second_);
  ASSERT_EQ(cudaEventRecord(fork_, second_), cudaSuccess);
  ASSERT_EQ(cudaStreamBeginCapture(stream(), cudaStreamCaptureModeGlobal), cudaSuccess);
  ASSERT_EQ(cudaStreamWaitEvent(stream(), fork_), cudaSuccess);
  cudaGraph_t graph = nullptr;
  EXPECT_EQ(cudaStreamEndCapture(stream(), &graph), cudaErrorStreamCaptureIsolation);
  EXPECT_EQ(cudaGetLastError(), cudaErrorStreamCaptureIsolation);
}

}  // namespace
