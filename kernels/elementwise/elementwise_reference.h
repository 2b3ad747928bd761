// The elementwise functions by their formulas. In double they are the truth that the tests hold the
// backends to.
#pragma once

#include <cstdint>

#include "kernels/elementwise/elementwise.h"

namespace stillpoint::kernels::reference {

template <class T>
void unary(const UnaryArgs<T>& args) {
#define STILLPOINT_CASE(name, expression)                               \
  case UnaryFunction::name:                                             \
    for (int64_t i = 0; i < args.n; ++i)                                \
      args.out[i] = scalar::unary::name::of(args.x[i], args.p, args.q); \
    break;
  switch (args.function) { STILLPOINT_UNARY_FUNCTIONS(STILLPOINT_CASE) }
#undef STILLPOINT_CASE
}

template <class T>
void binary(const BinaryArgs<T>& args) {
  for (int64_t row = 0; row < args.rows; ++row)
    for (int64_t column = 0; column < args.columns; ++column) {
      const int64_t i = row * args.columns + column;
      const T a = args.a[spread_index(args.a_spread, i, row, column)];
      const T b = args.b[spread_index(args.b_spread, i, row, column)];
#define STILLPOINT_CASE(name, expression)         \
  case BinaryFunction::name:                      \
    args.out[i] = scalar::binary::name::of(a, b); \
    break;
      switch (args.function) { STILLPOINT_BINARY_FUNCTIONS(STILLPOINT_CASE) }
#undef STILLPOINT_CASE
    }
}

}  // namespace stillpoint::kernels::reference
