// CUDA's keywords and vector types, for the C++ compiler.
#pragma once

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(bytes) alignas(bytes)
// A plain `static` array would be one for all blocks and unchecked: kernels/common/launch.h has the
// forms that work under nvcc and here.
#define __shared__ _Pragma("GCC error \"use STILLPOINT_SHARED or dynamic_shared<T>()\"")

#define STILLPOINT_VECTOR_TYPES(type, name, align2, align4)                   \
  struct name##1 {                                                            \
    type x;                                                                   \
  };                                                                          \
  struct alignas(align2) name##2 {                                            \
    type x, y;                                                                \
  };                                                                          \
  struct name##3 {                                                            \
    type x, y, z;                                                             \
  };                                                                          \
  struct alignas(align4) name##4 {                                            \
    type x, y, z, w;                                                          \
  };                                                                          \
  inline name##1 make_##name##1(type x) { return {x}; }                       \
  inline name##2 make_##name##2(type x, type y) { return {x, y}; }            \
  inline name##3 make_##name##3(type x, type y, type z) { return {x, y, z}; } \
  inline name##4 make_##name##4(type x, type y, type z, type w) { return {x, y, z, w}; }

STILLPOINT_VECTOR_TYPES(unsigned char, uchar, 2, 4)
STILLPOINT_VECTOR_TYPES(signed char, char, 2, 4)
STILLPOINT_VECTOR_TYPES(short, short, 4, 8)
STILLPOINT_VECTOR_TYPES(unsigned short, ushort, 4, 8)
STILLPOINT_VECTOR_TYPES(int, int, 8, 16)
STILLPOINT_VECTOR_TYPES(unsigned, uint, 8, 16)
STILLPOINT_VECTOR_TYPES(float, float, 8, 16)
STILLPOINT_VECTOR_TYPES(double, double, 16, 16)
STILLPOINT_VECTOR_TYPES(long long, longlong, 16, 16)
STILLPOINT_VECTOR_TYPES(unsigned long long, ulonglong, 16, 16)
#undef STILLPOINT_VECTOR_TYPES

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
  constexpr dim3(uint3 v) : x(v.x), y(v.y), z(v.z) {}
  constexpr operator uint3() const { return {x, y, z}; }
};

// The running thread's coordinates; the scheduler sets them whenever it changes threads.
extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;
inline constexpr int warpSize = 32;
