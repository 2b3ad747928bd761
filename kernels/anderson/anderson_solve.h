// The small system of an anderson step, solved by one thread or by the lanes of one warp: the same
// operations on the same numbers, so the same bits.
#pragma once

#include <cmath>

#include "kernels/anderson/anderson.h"
#include "kernels/common/portable.h"

namespace stillpoint::kernels {

// Doubles of scratch that anderson_solve wants.
STILLPOINT_HD constexpr int anderson_scratch(int columns) { return columns * (columns + 2); }

// Solves (G + ridge diag(G)) gamma = rhs in place of rhs; `gram` has rows of `stride`. Gauss-Jordan
// without row exchanges, which a positive definite matrix does not need. Lane `lane` of `lanes` has
// rows lane, lane + lanes, ...; `meet` waits for the others.
template <class Meet>
STILLPOINT_HD inline void anderson_solve(const double* gram, int stride, int columns, double ridge,
                                         double* rhs, double* scratch, int lane, int lanes,
                                         const Meet& meet) {
  const int width = columns + 1;
  double* a = scratch;                          // [columns, columns + 1], the right side last
  double* inverse = scratch + columns * width;  // [columns]: 1 / |dg_i|, or 0
  for (int i = lane; i < columns; i += lanes) {
    const double squares = gram[i * stride + i];
    inverse[i] = squares > 0 ? 1 / sqrt(squares) : 0;
  }
  meet();
  for (int i = lane; i < columns; i += lanes) {
    for (int j = 0; j < columns; ++j)
      a[i * width + j] = gram[i * stride + j] * inverse[i] * inverse[j] + (i == j ? ridge : 0);
    a[i * width + columns] = rhs[i] * inverse[i];
  }
  meet();
  for (int k = 0; k < columns; ++k) {
    const double pivot = a[k * width + k];
    if (pivot > kAndersonPivot)
      for (int i = lane; i < columns; i += lanes) {
        if (i == k) continue;
        const double factor = a[i * width + k] / pivot;
        for (int j = k + 1; j < width; ++j) a[i * width + j] -= factor * a[k * width + j];
      }
    meet();
  }
  for (int i = lane; i < columns; i += lanes) {
    const double pivot = a[i * width + i];
    rhs[i] = pivot > kAndersonPivot ? a[i * width + columns] / pivot * inverse[i] : 0;
  }
  meet();
}

// Whether the step is damped, from |g|^2 and |fz|^2.
STILLPOINT_HD inline bool anderson_far(double g_squares, double fz_squares, double begin) {
  return g_squares > begin * begin * fz_squares;
}
// How many differences there are when there were `count` iterates before, and where the newest
// goes.
STILLPOINT_HD inline int anderson_columns(int32_t count, int memory) {
  return count < memory ? count : memory;
}
STILLPOINT_HD inline int anderson_slot(int32_t count, int memory) {
  return count > 0 ? (count - 1) % memory : 0;
}

}  // namespace stillpoint::kernels
