// Graphs that loop: conditional WHILE nodes, and what their bodies may not hold.
#include <cuda_runtime.h>
#include <gmock/gmock.h>

#include <functional>
#include <vector>

#include "kernels/emulation/emulation.h"
#include "tests/emulation/planted_device.h"

namespace {

namespace emulation = stillpoint::emulation;
using testing::HasSubstr;

class Conditional : public testing::Test {
 protected:
  Conditional() {
    EXPECT_EQ(cudaGraphCreate(&graph_, 0), cudaSuccess);
    EXPECT_EQ(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming), cudaSuccess);
    EXPECT_EQ(cudaStreamCreateWithFlags(&second_, cudaStreamNonBlocking), cudaSuccess);
  }
  ~Conditional() override {
    emulation::reset();
    if (executable_ != nullptr) {
      EXPECT_EQ(cudaGraphExecDestroy(executable_), cudaSuccess);
    }
    EXPECT_EQ(cudaGraphDestroy(graph_), cudaSuccess);
    EXPECT_EQ(cudaEventDestroy(event_), cudaSuccess);
    EXPECT_EQ(cudaStreamDestroy(second_), cudaSuccess);
  }

  cudaGraphConditionalHandle condition(unsigned initial, unsigned flags) {
    cudaGraphConditionalHandle handle = 0;
    EXPECT_EQ(cudaGraphConditionalHandleCreate(&handle, graph_, initial, flags), cudaSuccess);
    return handle;
  }
  static cudaGraphNodeParams loop(cudaGraphConditionalHandle handle) {
    cudaGraphNodeParams parameters{};
    parameters.type = cudaGraphNodeTypeConditional;
    parameters.conditional.handle = handle;
    parameters.conditional.type = cudaGraphCondTypeWhile;
    parameters.conditional.size = 1;
    return parameters;
  }
  // The body of a new loop in `graph`.
  static cudaGraph_t add_loop(cudaGraph_t graph, cudaGraphConditionalHandle handle) {
    cudaGraphNodeParams parameters = loop(handle);
    cudaGraphNode_t node = nullptr;
    EXPECT_EQ(cudaGraphAddNode(&node, graph, nullptr, nullptr, 0, &parameters), cudaSuccess);
    return parameters.conditional.phGraph_out[0];
  }
  cudaError_t begin(cudaGraph_t body) {
    return cudaStreamBeginCaptureToGraph(stream(), body, nullptr, nullptr, 0,
                                         cudaStreamCaptureModeGlobal);
  }
  cudaError_t end() {
    cudaGraph_t result = nullptr;
    return cudaStreamEndCapture(stream(), &result);
  }
  void capture(cudaGraph_t body, const std::function<void()>& work) {
    ASSERT_EQ(begin(body), cudaSuccess);
    work();
    ASSERT_EQ(end(), cudaSuccess);
  }
  cudaError_t instantiate() { return cudaGraphInstantiate(&executable_, graph_); }
  cudaError_t launch() {
    const cudaError_t code = cudaGraphLaunch(executable_, stream());
    return code == cudaSuccess ? cudaStreamSynchronize(stream()) : code;
  }

  static void set(float* p, float value) {
    ASSERT_EQ(cudaMemcpy(p, &value, sizeof value, cudaMemcpyHostToDevice), cudaSuccess);
  }
  static float first(const float* p) {
    float value = 0;
    EXPECT_EQ(cudaMemcpy(&value, p, sizeof value, cudaMemcpyDeviceToHost), cudaSuccess);
    return value;
  }
  void count_down(cudaGraphConditionalHandle handle) {
    ASSERT_TRUE(
        planted::run_in_loop("counts_down", handle, device_.x(), device_.y(), stream()).ok());
  }
  cudaStream_t stream() const { return device_.stream(); }

  PlantedDevice device_;
  cudaGraph_t graph_ = nullptr;
  cudaGraphExec_t executable_ = nullptr;
  cudaEvent_t event_ = nullptr;
  cudaStream_t second_ = nullptr;
};

TEST_F(Conditional, LoopsWhileItsConditionHolds) {
  const cudaGraphConditionalHandle handle = condition(1, cudaGraphCondAssignDefault);
  capture(add_loop(graph_, handle), [&] { count_down(handle); });
  EXPECT_EQ(emulation::counters().launches, 0);
  ASSERT_EQ(instantiate(), cudaSuccess);
  for (const float times : {5.0f, 1.0f}) {
    set(device_.x(), times);
    set(device_.y(), 0);
    ASSERT_EQ(launch(), cudaSuccess);
    EXPECT_EQ(first(device_.y()), times);
  }
  EXPECT_EQ(emulation::counters().launches, 6);
}

TEST_F(Conditional, AsksBeforeTheFirstIteration) {
  const cudaGraphConditionalHandle handle = condition(0, cudaGraphCondAssignDefault);
  capture(add_loop(graph_, handle), [&] { count_down(handle); });
  ASSERT_EQ(instantiate(), cudaSuccess);
  ASSERT_EQ(launch(), cudaSuccess);
  EXPECT_EQ(emulation::counters().launches, 0);
}

// What a body may hold: copies between device memory, fills, forks that join, and another loop.
TEST_F(Conditional, BodyMayHoldCopiesFillsForksAndLoops) {
  const cudaGraphConditionalHandle outer = condition(1, cudaGraphCondAssignDefault);
  const cudaGraphConditionalHandle inner = condition(1, cudaGraphCondAssignDefault);
  const cudaGraph_t body = add_loop(graph_, outer);
  capture(body, [&] {
    ASSERT_EQ(cudaEventRecord(event_, stream()), cudaSuccess);
    ASSERT_EQ(cudaStreamWaitEvent(second_, event_), cudaSuccess);
    ASSERT_EQ(cudaMemsetAsync(device_.y(), 0, 4, second_), cudaSuccess);
    ASSERT_EQ(cudaEventRecord(event_, second_), cudaSuccess);
    ASSERT_EQ(cudaStreamWaitEvent(stream(), event_), cudaSuccess);
    ASSERT_EQ(cudaMemcpyAsync(device_.x() + 1, device_.y(), 4, cudaMemcpyDeviceToDevice, stream()),
              cudaSuccess);
    count_down(outer);
  });
  capture(add_loop(body, inner), [&] {
    ASSERT_TRUE(
        planted::run_in_loop("counts_down", inner, device_.x() + 8, device_.y() + 8, stream())
            .ok());
  });
  ASSERT_EQ(instantiate(), cudaSuccess);
  set(device_.x(), 2);
  set(device_.x() + 8, 3);
  set(device_.y() + 8, 0);
  ASSERT_EQ(launch(), cudaSuccess);
  EXPECT_EQ(first(device_.x()), 0);
  EXPECT_EQ(first(device_.y() + 8), 3);  // and no more: its condition was 0 the second time
}

TEST_F(Conditional, BodyMayNotTouchTheHost) {
  float value = 0;
  const std::vector<std::pair<const char*, std::function<cudaError_t()>>> works = {
      {"host memory",
       [&] { return cudaMemcpyAsync(&value, device_.x(), 4, cudaMemcpyDeviceToHost, stream()); }},
      {"host memory",
       [&] { return cudaMemcpyAsync(device_.x(), &value, 4, cudaMemcpyHostToDevice, stream()); }},
      {"host function",
       [&] {
         return cudaLaunchHostFunc(
             stream(), [](void*) {}, nullptr);
       }},
  };
  for (const auto& [what, work] : works) {
    const cudaGraphConditionalHandle handle = condition(1, cudaGraphCondAssignDefault);
    capture(add_loop(graph_, handle), [&] {
      count_down(handle);
      ASSERT_EQ(work(), cudaSuccess);
    });
    EXPECT_EQ(instantiate(), cudaErrorNotSupported);
    EXPECT_THAT(cudaGetErrorString(cudaGetLastError()), HasSubstr(what));
    ASSERT_EQ(cudaGraphDestroy(graph_), cudaSuccess);
    ASSERT_EQ(cudaGraphCreate(&graph_, 0), cudaSuccess);
    emulation::reset();
  }
}

TEST_F(Conditional, BodyInABodyMayNotTouchTheHost) {
  const cudaGraphConditionalHandle handle = condition(1, cudaGraphCondAssignDefault);
  const cudaGraph_t body = add_loop(graph_, handle);
  capture(body, [&] { count_down(handle); });
  capture(add_loop(body, condition(0, cudaGraphCondAssignDefault)), [&] {
    ASSERT_EQ(cudaLaunchHostFunc(
                  stream(), [](void*) {}, nullptr),
              cudaSuccess);
  });
  EXPECT_EQ(instantiate(), cudaErrorNotSupported);
}

TEST_F(Conditional, NoCallWaitsOrAllocatesInABody) {
  void* p = nullptr;
  float value = 0;
  const std::vector<std::function<cudaError_t()>> calls = {
      [&] { return cudaStreamSynchronize(stream()); },
      [&] { return cudaDeviceSynchronize(); },
      [&] { return cudaStreamQuery(stream()); },
      [&] { return cudaMemcpy(&value, device_.x(), 4, cudaMemcpyDeviceToHost); },
      [&] { return cudaMalloc(&p, 16); },
      [&] { return cudaFree(device_.x()); },
  };
  for (const auto& call : calls) {
    ASSERT_EQ(begin(add_loop(graph_, condition(1, cudaGraphCondAssignDefault))), cudaSuccess);
    EXPECT_EQ(call(), cudaErrorStreamCaptureUnsupported);
    EXPECT_EQ(end(), cudaErrorStreamCaptureInvalidated);
  }
  ASSERT_EQ(begin(add_loop(graph_, condition(1, cudaGraphCondAssignDefault))), cudaSuccess);
  ASSERT_EQ(cudaEventRecord(event_, stream()), cudaSuccess);
  EXPECT_EQ(cudaEventSynchronize(event_), cudaErrorCapturedEvent);
  EXPECT_EQ(cudaEventQuery(event_), cudaErrorCapturedEvent);
  EXPECT_EQ(end(), cudaSuccess);
}

// Nodes that are added, not captured: of events, memory and the host there are none.
TEST_F(Conditional, OnlyLoopsAreAdded) {
  const cudaGraph_t body = add_loop(graph_, condition(1, cudaGraphCondAssignDefault));
  for (const cudaGraphNodeType type :
       {cudaGraphNodeTypeHost, cudaGraphNodeTypeWaitEvent, cudaGraphNodeTypeEventRecord,
        cudaGraphNodeTypeExtSemaphoreSignal, cudaGraphNodeTypeExtSemaphoreWait,
        cudaGraphNodeTypeMemAlloc, cudaGraphNodeTypeMemFree}) {
    cudaGraphNodeParams parameters{};
    parameters.type = type;
    cudaGraphNode_t node = nullptr;
    EXPECT_EQ(cudaGraphAddNode(&node, body, nullptr, nullptr, 0, &parameters),
              cudaErrorNotSupported)
        << type;
  }
}

TEST_F(Conditional, ConditionBelongsToItsGraph) {
  cudaGraph_t other = nullptr;
  ASSERT_EQ(cudaGraphCreate(&other, 0), cudaSuccess);
  cudaGraphNodeParams parameters = loop(condition(1, cudaGraphCondAssignDefault));
  cudaGraphNode_t node = nullptr;
  EXPECT_EQ(cudaGraphAddNode(&node, other, nullptr, nullptr, 0, &parameters),
            cudaErrorInvalidValue);
  EXPECT_EQ(cudaGraphDestroy(other), cudaSuccess);
}

TEST_F(Conditional, ConditionWithoutAValueIsAnError) {
  const cudaGraphConditionalHandle handle = condition(1, 0);
  capture(add_loop(graph_, handle), [&] { count_down(handle); });
  ASSERT_EQ(instantiate(), cudaSuccess);
  EXPECT_EQ(launch(), cudaErrorUnknown);
  EXPECT_THAT(emulation::last_error_message(), HasSubstr("condition without a value"));
}

TEST_F(Conditional, EndlessLoopIsAnError) {
  const cudaGraphConditionalHandle handle = condition(1, cudaGraphCondAssignDefault);
  capture(add_loop(graph_, handle), [] {});
  ASSERT_EQ(instantiate(), cudaSuccess);
  EXPECT_EQ(launch(), cudaErrorUnknown);
  EXPECT_THAT(emulation::last_error_message(), HasSubstr("endless loop"));
}

TEST_F(Conditional, SettingAConditionTwiceIsAnError) {
  const cudaGraphConditionalHandle handle = condition(1, cudaGraphCondAssignDefault);
  capture(add_loop(graph_, handle), [&] {
    ASSERT_TRUE(
        planted::run_in_loop("sets_twice", handle, device_.x(), device_.y(), stream()).ok());
  });
  ASSERT_EQ(instantiate(), cudaSuccess);
  EXPECT_EQ(launch(), cudaErrorUnknown);
  EXPECT_THAT(emulation::last_error_message(), HasSubstr("two calls for one condition"));
}

TEST_F(Conditional, SettingAnUnknownConditionIsAnError) {
  count_down(123456789);
  EXPECT_EQ(cudaStreamSynchronize(stream()), cudaErrorIllegalAddress);
  EXPECT_THAT(emulation::last_error_message(), HasSubstr("no such condition"));
}

TEST_F(Conditional, OneInstantiationAtATime) {
  const cudaGraphConditionalHandle handle = condition(1, cudaGraphCondAssignDefault);
  capture(add_loop(graph_, handle), [&] { count_down(handle); });
  ASSERT_EQ(instantiate(), cudaSuccess);
  cudaGraphExec_t second = nullptr;
  EXPECT_EQ(cudaGraphInstantiate(&second, graph_), cudaErrorNotSupported);
  EXPECT_EQ(cudaGraphExecDestroy(executable_), cudaSuccess);
  EXPECT_EQ(instantiate(), cudaSuccess);
  // Nor does it become part of another graph.
  ASSERT_EQ(cudaStreamBeginCapture(stream(), cudaStreamCaptureModeGlobal), cudaSuccess);
  EXPECT_EQ(cudaGraphLaunch(executable_, stream()), cudaErrorNotSupported);
  cudaGraph_t captured = nullptr;
  ASSERT_EQ(cudaStreamEndCapture(stream(), &captured), cudaSuccess);
  EXPECT_EQ(cudaGraphDestroy(captured), cudaSuccess);
}

TEST_F(Conditional, BodiesBelongToTheirGraph) {
  const cudaGraphConditionalHandle handle = condition(1, cudaGraphCondAssignDefault);
  const cudaGraph_t body = add_loop(graph_, handle);
  EXPECT_EQ(cudaGraphDestroy(body), cudaErrorInvalidValue);
  cudaGraphExec_t executable = nullptr;
  EXPECT_EQ(cudaGraphInstantiate(&executable, body), cudaErrorInvalidValue);
  // A capture that fails leaves it empty, to be tried again.
  ASSERT_EQ(begin(body), cudaSuccess);
  EXPECT_EQ(cudaStreamSynchronize(stream()), cudaErrorStreamCaptureUnsupported);
  EXPECT_EQ(end(), cudaErrorStreamCaptureInvalidated);
  EXPECT_EQ(cudaGetLastError(), cudaErrorStreamCaptureInvalidated);
  capture(body, [&] { count_down(handle); });
  ASSERT_EQ(instantiate(), cudaSuccess);
  set(device_.x(), 3);
  set(device_.y(), 0);
  ASSERT_EQ(launch(), cudaSuccess);
  EXPECT_EQ(first(device_.y()), 3);
}

}  // namespace
