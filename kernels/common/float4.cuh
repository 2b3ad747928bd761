// Four floats as one: kernels that walk along rows are templates over V, float4 where every row
// starts on 16 bytes, float elsewhere.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

namespace stillpoint::kernels::cuda {

template <class V>
__device__ __forceinline__ V all(float x);
template <>
__device__ __forceinline__ float all<float>(float x) {
  return x;
}
template <>
__device__ __forceinline__ float4 all<float4>(float x) {
  return make_float4(x, x, x, x);
}

__device__ __forceinline__ float add(float a, float b) { return a + b; }
__device__ __forceinline__ float4 add(float4 a, float4 b) {
  return make_float4(a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w);
}

// a * b + c with one rounding.
__device__ __forceinline__ float multiply_add(float a, float b, float c) { return fmaf(a, b, c); }
__device__ __forceinline__ float4 multiply_add(float a, float4 b, float4 c) {
  return make_float4(fmaf(a, b.x, c.x), fmaf(a, b.y, c.y), fmaf(a, b.z, c.z), fmaf(a, b.w, c.w));
}

// a . b + c, from the last element to the first.
__device__ __forceinline__ float dot_add(float a, float b, float c) { return fmaf(a, b, c); }
__device__ __forceinline__ float dot_add(float4 a, float4 b, float c) {
  return fmaf(a.x, b.x, fmaf(a.y, b.y, fmaf(a.z, b.z, fmaf(a.w, b.w, c))));
}

__device__ __forceinline__ float part(const float4& v, int k) {
  return k == 0 ? v.x : k == 1 ? v.y : k == 2 ? v.z : v.w;
}
__device__ __forceinline__ float& part(float4& v, int k) {
  return k == 0 ? v.x : k == 1 ? v.y : k == 2 ? v.z : v.w;
}

// max(x, 0) that keeps NaN.
__device__ __forceinline__ float relu(float x) { return x < 0.f ? 0.f : x; }
__device__ __forceinline__ float4 relu(float4 v) {
  return make_float4(relu(v.x), relu(v.y), relu(v.z), relu(v.w));
}

// Whether rows of `channels` floats that start at these addresses can be read as float4.
template <class... Pointers>
bool rows_take_float4(int64_t channels, const Pointers*... rows) {
  return channels % 4 == 0 &&
         ((reinterpret_cast<uintptr_t>(rows) % sizeof(float4) == 0) && ... && true);
}

}  // namespace stillpoint::kernels::cuda
