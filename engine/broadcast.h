// The broadcasting rule of the two-operand ops (engine/ops.h), in one place.
#pragma once

#include "engine/tensor.h"
#include "kernels/elementwise/elementwise.h"

namespace stillpoint {

// The larger shape seen as [rows, columns], and how the smaller one covers it.
struct Cover {
  kernels::Spread spread = kernels::Spread::full;
  int64_t rows = 1;
  int64_t columns = 1;
};

// How `small` covers `large`. Throws ShapeError, naming `op`, if it does not.
Cover cover(const Shape& small, const Shape& large, const char* op);

// The shape of an op on `a` and `b`, and how each covers it.
struct Broadcast {
  Shape shape;
  Cover a, b;  // with the same rows and columns
};
Broadcast broadcast(const Shape& a, const Shape& b, const char* op);

}  // namespace stillpoint
