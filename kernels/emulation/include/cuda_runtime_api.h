// The host side of the CUDA runtime as the emulation provides it: types and functions, from
// cuda_api.inc. Stands in for the toolkit's header of the same name.
#pragma once

#include <cstddef>

struct CUstream_st;
struct CUevent_st;
struct CUgraph_st;
struct CUgraphExec_st;
struct CUgraphNode_st;
using cudaStream_t = CUstream_st*;
using cudaEvent_t = CUevent_st*;
using cudaGraph_t = CUgraph_st*;
using cudaGraphExec_t = CUgraphExec_st*;
using cudaGraphNode_t = CUgraphNode_st*;
using cudaGraphConditionalHandle = unsigned long long;
using cudaHostFn_t = void (*)(void*);

enum cudaError {
#define STILLPOINT_CUDA_ERROR(name, value) name = value,
#include "kernels/emulation/cuda_api.inc"
};
using cudaError_t = cudaError;

enum cudaDeviceAttr {
#define STILLPOINT_CUDA_ATTRIBUTE(name, value, answer) name = value,
#include "kernels/emulation/cuda_api.inc"
};

enum cudaMemcpyKind : unsigned {};
enum cudaFuncAttribute : unsigned {};
enum cudaStreamCaptureMode : unsigned {};
enum cudaStreamCaptureStatus : unsigned {};
enum cudaGraphNodeType : unsigned {};
enum cudaGraphConditionalNodeType : unsigned {};
enum cudaGraphConditionalHandleFlags : unsigned {};
#define STILLPOINT_CUDA_CONSTANT(type, name, value) inline constexpr type name{value};
#include "kernels/emulation/cuda_api.inc"

struct cudaConditionalNodeParams {
  cudaGraphConditionalHandle handle;
  cudaGraphConditionalNodeType type;
  unsigned size;
  cudaGraph_t* phGraph_out;
};
struct cudaGraphNodeParams {
  cudaGraphNodeType type;
  int reserved0[3];
  union {
    long long reserved1[29];
    cudaConditionalNodeParams conditional;
  };
  long long reserved2;
};
struct cudaGraphEdgeData {
  unsigned char from_port, to_port, type, reserved[5];
};

struct cudaDeviceProp {
  char name[256];
#define STILLPOINT_CUDA_PROPERTY(type, field, answer) type field;
#include "kernels/emulation/cuda_api.inc"
};

extern "C" {
#define STILLPOINT_CUDA_FUNCTION(result, name, parameters) result name parameters;
#include "kernels/emulation/cuda_api.inc"

// The same functions again, with the default arguments that the toolkit's header gives them.
cudaError_t cudaMemcpyAsync(void*, const void*, size_t, cudaMemcpyKind, cudaStream_t = nullptr);
cudaError_t cudaMemsetAsync(void*, int, size_t, cudaStream_t = nullptr);
cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned = 0);
cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t = nullptr);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t*, cudaGraph_t, unsigned long long = 0);
cudaError_t cudaGraphConditionalHandleCreate(cudaGraphConditionalHandle*, cudaGraph_t, unsigned = 0,
                                             unsigned = 0);
}
