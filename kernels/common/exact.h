// Functions whose results are the same bits on every backend: the operations of IEEE arithmetic in
// a fixed order, fused where fma stands and nowhere else (compilers of the host are told not to
// contract, device code says so operation by operation). What is drawn at random rests on these, so
// that equal scores mean equal picks. exact-inl.h holds the same in vectors.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#include "kernels/common/portable.h"

namespace stillpoint::kernels::exact {

#if defined(__CUDA_ARCH__)
__device__ __forceinline__ float add(float a, float b) { return __fadd_rn(a, b); }
__device__ __forceinline__ float sub(float a, float b) { return __fsub_rn(a, b); }
__device__ __forceinline__ float mul(float a, float b) { return __fmul_rn(a, b); }
__device__ __forceinline__ float div(float a, float b) { return __fdiv_rn(a, b); }
__device__ __forceinline__ float fma(float a, float b, float c) { return __fmaf_rn(a, b, c); }
__device__ __forceinline__ int32_t bits_of(float x) { return __float_as_int(x); }
__device__ __forceinline__ float float_of(int32_t bits) { return __int_as_float(bits); }
__device__ __forceinline__ float round(float x) { return rintf(x); }
#else
STILLPOINT_HD inline float add(float a, float b) { return a + b; }
STILLPOINT_HD inline float sub(float a, float b) { return a - b; }
STILLPOINT_HD inline float mul(float a, float b) { return a * b; }
STILLPOINT_HD inline float div(float a, float b) { return a / b; }
STILLPOINT_HD inline float fma(float a, float b, float c) { return std::fma(a, b, c); }
STILLPOINT_HD inline int32_t bits_of(float x) {
  int32_t bits;
  std::memcpy(&bits, &x, sizeof(bits));
  return bits;
}
STILLPOINT_HD inline float float_of(int32_t bits) {
  float x;
  std::memcpy(&x, &bits, sizeof(x));
  return x;
}
STILLPOINT_HD inline float round(float x) { return std::nearbyint(x); }
#endif

// n ln 2 + log(1 + f), by 2 artanh(f / (2 + f)) and its series to the ninth power, as log of
// math-inl.h.
STILLPOINT_HD inline float log_from(float n, float f) {
  const float s = div(f, add(2.f, f));
  const float s2 = mul(s, s);
  float p = fma(2.f / 9, s2, 2.f / 7);
  p = fma(p, s2, 2.f / 5);
  p = fma(p, s2, 2.f / 3);
  const float tail = mul(s, fma(p, s2, -f));  // 2 s = f - s f: keeps the leading term exact
  const float low = fma(n, -2.12194440e-4f, tail);
  return fma(n, 0.693359375f, add(low, f));
}

// log(x) of a normal positive number.
STILLPOINT_HD inline float log(float x) {
  const int32_t bits = bits_of(x);
  // Adding the distance from sqrt(1/2) to 1 carries into the exponent exactly where the mantissa
  // would leave [sqrt(1/2), sqrt(2)).
  const int32_t exponent = ((bits + (0x3f800000 - 0x3f3504f3)) >> 23) - 127;
  const float m = float_of(
      static_cast<int32_t>(static_cast<uint32_t>(bits) - (static_cast<uint32_t>(exponent) << 23)));
  return log_from(static_cast<float>(exponent), sub(m, 1.f));
}

// (bits + 1/2) / 2^32, rounded once: in (0, 1], with 24 digits however small.
STILLPOINT_HD inline float open_uniform(uint32_t bits) {
  const float low = add(static_cast<float>(static_cast<int32_t>(bits & 0xffffu)), 0.5f);
  return mul(fma(static_cast<float>(static_cast<int32_t>(bits >> 16)), 65536.f, low), 0x1p-32f);
}

// -log(-log(1 - u)) with u = (bits + 1/2) / 2^32. Large values come from small u, whose digits
// log(1 - u) keeps, so that the tail is as fine as the rest: from -3.1 to 22.9.
STILLPOINT_HD inline float gumbel(uint32_t bits) {
  constexpr uint32_t kNear = 0x4af00000u;  // below it 1 - u > sqrt(1/2), and u itself is exact
  const bool near = bits < kNear;
  const float x = open_uniform(near ? bits : ~bits);
  const float e = near ? log_from(0.f, -x) : log(x);
  return -log(-e);
}

// e^x for x <= 0 as a multiple of 2^-30: n ln 2 + r = x, and the Taylor series of e^r to r^7.
// Integers add up to the same sum in any order.
STILLPOINT_HD inline int32_t weight(float x) {
  const float bounded = x < -24.f ? -24.f : x;  // e^-24 < 2^-31 is 0 anyway
  const float n = round(mul(bounded, 1.44269504f));
  float r = fma(-n, 0.693359375f, bounded);
  r = fma(n, 2.12194440e-4f, r);
  float p = fma(1.f / 5040, r, 1.f / 720);
  p = fma(p, r, 1.f / 120);
  p = fma(p, r, 1.f / 24);
  p = fma(p, r, 1.f / 6);
  p = fma(p, r, 1.f / 2);
  p = fma(p, r, 1.f);
  p = fma(p, r, 1.f);
  const float power = float_of((static_cast<int32_t>(n) + 127 + 30) * (1 << 23));
  return static_cast<int32_t>(mul(p, power));
}

}  // namespace stillpoint::kernels::exact
