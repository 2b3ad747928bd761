// broyden_update: one step of Broyden's method for z = f(z), for every row of z and fz = f(z). Row
// r belongs to sample b = index[r], whose c = count[b] last steps are s_0, ..., s_{c-1} (the last
// one led to z). With the residual g = fz - z and the initial Jacobian -I of g:
//
//   v = g;  for j = 0 .. c-2:  v = v + s_{j+1} (s_j . v) / |s_j|^2
//   s_c = v / (1 - (s_{c-1} . v) / |s_{c-1}|^2)        next = z + s_c
//
// The "good" update, written with nothing but the steps: Kelley, "Iterative Methods for Linear and
// Nonlinear Equations", SIAM 1995, section 7.3 (brsol). At most `memory` steps are kept. When they
// are full, and where a denominator falls below kBroydenDenominator, the sample starts again from
// s_0 = g: memory is bounded whatever happens.
//
// Steps are held in T, inner products are formed in double. A sample whose status is not
// kSolverRunning keeps its state, and next is z. A row is one thread's work on the CPU and one
// block's on CUDA, so results are the same bits for any thread count. next may be z; nothing else
// may alias.
//
// Cost per element with c steps: 4 c + 4 flops, and 20 c + 24 bytes.
#pragma once

#include <cstdint>

#include "kernels/common/portable.h"
#include "kernels/common/status.h"
#include "kernels/common/stream.h"

namespace stillpoint::kernels {

constexpr double kBroydenDenominator = 1e-6;

template <class T>
struct BroydenUpdateArgs {
  const T* z;             // [rows, n]
  const T* fz;            // [rows, n]
  const int32_t* index;   // [rows], in [0, batch)
  const int32_t* status;  // [batch]
  T* steps;               // [batch, memory, n]
  double* squares;        // [batch, memory]: |s_j|^2
  int32_t* count;         // [batch], 0 at first
  T* next;                // [rows, n]
  int64_t rows, n;
  int memory;  // at least 2
};

// The factor (s_j . v) / |s_j|^2; a step of length 0 says nothing.
STILLPOINT_HD inline double broyden_factor(double dot, double squares) {
  return squares > 0 ? dot / squares : 0;
}
// Whether s_c = v / denominator is a step to trust.
STILLPOINT_HD inline bool broyden_accepts(double denominator) {
  return denominator > kBroydenDenominator || denominator < -kBroydenDenominator;
}

namespace cpu {
void broyden_update(const BroydenUpdateArgs<float>& args);
}  // namespace cpu

namespace cuda {
Status broyden_update(const BroydenUpdateArgs<float>& args, Stream stream);
}  // namespace cuda

}  // namespace stillpoint::kernels
