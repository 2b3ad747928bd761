// Every elementwise function, once. The reference, the SIMD code and the CUDA kernels are all made
// from these two tables; to add a function is to add a line.
//
// An expression may use the constants zero, half, one and the functions below, which exist for
// scalars (this file) and for vectors (elementwise_cpu.cpp).
#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/common/portable.h"

// F(name, f(x)); p and q are parameters.
#define STILLPOINT_UNARY_FUNCTIONS(F) \
  F(affine, p* x + q)                 \
  F(relu, zero_if_negative(x))        \
  F(sigmoid, logistic(x))             \
  F(tanh, hyperbolic_tangent(x))      \
  F(silu, x* logistic(x))             \
  F(exp, exponential(x))              \
  F(log, logarithm(x))                \
  F(sqrt, square_root(x))             \
  F(rsqrt, one / square_root(x))      \
  F(square, x* x)

// F(name, f(a, b)). In the gradients a is the gradient of the output; b is the input x or the
// output y, whichever is named.
#define STILLPOINT_BINARY_FUNCTIONS(F)                              \
  F(add, a + b)                                                     \
  F(sub, a - b)                                                     \
  F(mul, a* b)                                                      \
  F(div, a / b)                                                     \
  F(relu_grad_y, where_positive(b, a))                              \
  F(sigmoid_grad_y, a*(b * (one - b)))                              \
  F(tanh_grad_y, a*(one - b * b))                                   \
  F(silu_grad_x, a*(logistic(b) * (one + b * (one - logistic(b))))) \
  F(sqrt_grad_y, half* a / b)                                       \
  F(rsqrt_grad_y, zero - half * a * (b * b * b))                    \
  F(square_grad_x, a*(b + b))

namespace stillpoint::kernels {

#define STILLPOINT_ENUMERATOR(name, expression) name,
enum class UnaryFunction : uint8_t { STILLPOINT_UNARY_FUNCTIONS(STILLPOINT_ENUMERATOR) };
enum class BinaryFunction : uint8_t { STILLPOINT_BINARY_FUNCTIONS(STILLPOINT_ENUMERATOR) };
#undef STILLPOINT_ENUMERATOR

// Both make a struct `name` whose of() is the function; `constant` and the functions named in the
// expression are looked up where the macro is used.
#define STILLPOINT_UNARY_STRUCT(name, expression)                                       \
  struct name {                                                                         \
    template <class V>                                                                  \
    STILLPOINT_HD static inline V of(V x, [[maybe_unused]] V p, [[maybe_unused]] V q) { \
      [[maybe_unused]] const V zero = constant<V>(0), half = constant<V>(0.5);          \
      [[maybe_unused]] const V one = constant<V>(1);                                    \
      return expression;                                                                \
    }                                                                                   \
  };
#define STILLPOINT_BINARY_STRUCT(name, expression)                             \
  struct name {                                                                \
    template <class V>                                                         \
    STILLPOINT_HD static inline V of(V a, V b) {                               \
      [[maybe_unused]] const V zero = constant<V>(0), half = constant<V>(0.5); \
      [[maybe_unused]] const V one = constant<V>(1);                           \
      return expression;                                                       \
    }                                                                          \
  };

namespace scalar {

template <class T>
STILLPOINT_HD inline T constant(double c) {
  return static_cast<T>(c);
}
template <class T>
STILLPOINT_HD inline T zero_if_negative(T x) {
  return x < 0 ? T{0} : x;  // keeps NaN
}
template <class T>
STILLPOINT_HD inline T where_positive(T x, T y) {
  return x > 0 ? y : T{0};
}
STILLPOINT_HD inline float exponential(float x) { return expf(x); }
STILLPOINT_HD inline double exponential(double x) { return ::exp(x); }
STILLPOINT_HD inline float logarithm(float x) { return logf(x); }
STILLPOINT_HD inline double logarithm(double x) { return ::log(x); }
STILLPOINT_HD inline float square_root(float x) { return sqrtf(x); }
STILLPOINT_HD inline double square_root(double x) { return ::sqrt(x); }
STILLPOINT_HD inline float hyperbolic_tangent(float x) { return tanhf(x); }
STILLPOINT_HD inline double hyperbolic_tangent(double x) { return ::tanh(x); }
template <class T>
STILLPOINT_HD inline T logistic(T x) {
  return T{1} / (T{1} + exponential(-x));
}

namespace unary {
STILLPOINT_UNARY_FUNCTIONS(STILLPOINT_UNARY_STRUCT)
}
namespace binary {
STILLPOINT_BINARY_FUNCTIONS(STILLPOINT_BINARY_STRUCT)
}

}  // namespace scalar
}  // namespace stillpoint::kernels
