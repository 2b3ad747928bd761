// Compiled by nvcc alone: every line of the lists of CUDA interfaces must be what the toolkit's
// headers say, or the emulation would test host code against an interface that does not exist.
#include <cublas_v2.h>
#include <cuda_runtime.h>
#include <cusparse.h>

#include <cstddef>
#include <cstdint>
#include <type_traits>

#define STILLPOINT_CUDA_ERROR(name, value) static_assert(static_cast<int>(name) == (value));
#define STILLPOINT_CUDA_ATTRIBUTE(name, value, answer) \
  static_assert(static_cast<int>(name) == (value));
#define STILLPOINT_CUDA_PROPERTY(type, field, answer) \
  static_assert(std::is_same_v<decltype(cudaDeviceProp::field), type>);

// The cast picks the overload that the list names.
#define STILLPOINT_IS_FUNCTION(result, name, parameters) \
  static_assert(                                         \
      std::is_same_v<decltype(static_cast<result(*) parameters>(&name)), result(*) parameters>);
#define STILLPOINT_IS_CONSTANT(type, name, value)        \
  static_assert(static_cast<unsigned>(name) == (value)); \
  static_assert(std::is_convertible_v<decltype(name), type>);

#define STILLPOINT_CUDA_FUNCTION STILLPOINT_IS_FUNCTION
#define STILLPOINT_CUDA_CONSTANT STILLPOINT_IS_CONSTANT
#include "kernels/emulation/cuda_api.inc"
#define STILLPOINT_CUDA_FUNCTION STILLPOINT_IS_FUNCTION
#define STILLPOINT_CUDA_CONSTANT STILLPOINT_IS_CONSTANT
#include "kernels/emulation/cublas_api.inc"
#define STILLPOINT_CUDA_FUNCTION STILLPOINT_IS_FUNCTION
#define STILLPOINT_CUDA_CONSTANT STILLPOINT_IS_CONSTANT
#include "kernels/emulation/cusparse_api.inc"

// The vector types of device_types.h.
#define STILLPOINT_VECTOR(type, element, count, alignment)  \
  static_assert(sizeof(type) == (count) * sizeof(element)); \
  static_assert(alignof(type) == (alignment));              \
  static_assert(std::is_same_v<decltype(type::x), element>);
STILLPOINT_VECTOR(uchar4, unsigned char, 4, 4)
STILLPOINT_VECTOR(short2, short, 2, 4)
STILLPOINT_VECTOR(ushort4, unsigned short, 4, 8)
STILLPOINT_VECTOR(int2, int, 2, 8)
STILLPOINT_VECTOR(int3, int, 3, 4)
STILLPOINT_VECTOR(int4, int, 4, 16)
STILLPOINT_VECTOR(uint3, unsigned, 3, 4)
STILLPOINT_VECTOR(uint4, unsigned, 4, 16)
STILLPOINT_VECTOR(float2, float, 2, 8)
STILLPOINT_VECTOR(float3, float, 3, 4)
STILLPOINT_VECTOR(float4, float, 4, 16)
STILLPOINT_VECTOR(double2, double, 2, 16)
STILLPOINT_VECTOR(longlong2, long long, 2, 16)
static_assert(std::is_same_v<cudaStream_t, CUstream_st*>);
static_assert(std::is_same_v<cudaEvent_t, CUevent_st*>);
