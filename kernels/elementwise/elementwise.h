// elementwise: one function of one or two numbers, applied to every element.
//
//   unary   out[i]    = f(x[i])
//   binary  out[r, c] = f(a(r, c), b(r, c))
//
// The functions are listed in functions.h. A binary operand is either of the output's size or
// smaller and spread over it: one value per column or one per row. The output may be one of the
// inputs that have its size. Each element is computed by itself: results depend on nothing else.
//
// Cost: 8 n bytes (unary); 4 bytes per element of a, b and out (binary), the small operand from
// cache. Bound by memory; exp, log, tanh and the logistic function take 15 to 30 flops an element.
#pragma once

#include <cstdint>

#include "kernels/common/status.h"
#include "kernels/common/stream.h"
#include "kernels/elementwise/functions.h"

namespace stillpoint::kernels {

// How an operand covers the output [rows, columns].
enum class Spread : uint8_t {
  full,        // [rows, columns]
  per_column,  // [columns], the same in every row
  per_row      // [rows], the same in every column
};

template <class T>
struct UnaryArgs {
  UnaryFunction function;
  const T* x;  // [n]
  T* out;      // [n]
  int64_t n;
  T p = 0, q = 0;  // parameters of `function`
};

template <class T>
struct BinaryArgs {
  BinaryFunction function;
  const T* a;  // by a_spread
  const T* b;  // by b_spread
  T* out;      // [rows, columns]
  int64_t rows;
  int64_t columns;
  Spread a_spread = Spread::full;
  Spread b_spread = Spread::full;
};

// Where element `i` = (row, column) of the output finds its operand.
STILLPOINT_HD inline int64_t spread_index(Spread spread, int64_t i, int64_t row, int64_t column) {
  return spread == Spread::full ? i : spread == Spread::per_row ? row : column;
}

namespace cpu {
void unary(const UnaryArgs<float>& args);
void binary(const BinaryArgs<float>& args);
}  // namespace cpu

namespace cuda {
Status unary(const UnaryArgs<float>& args, Stream stream);
Status binary(const BinaryArgs<float>& args, Stream stream);
// out[i] = value: float32 and int32 alike, as their 32 bits. The CPU has std::fill.
Status fill(uint32_t* out, uint32_t value, int64_t n, Stream stream);
}  // namespace cuda

}  // namespace stillpoint::kernels
