// solver_check: how far each sample of a batch is from its fixed point, and whether it is done. Row
// r of z and fz = f(z) belongs to sample b = index[r]. While status[b] is kSolverRunning:
//
//   d = |fz[r] - z[r]|        s = |fz[r]|
//   if d or s is NaN or infinite: residual[b] = NaN, status[b] = kSolverNotFinite; otherwise
//   residual[b] = e = d, divided by s if `relative` (0 where d is 0; infinite where only s is 0)
//   status[b] = kSolverConverged if e <= tolerance
//   if d < best_difference[b], or converged:
//     best_difference[b] = d, best_scale[b] = s, best[b] = z[r]
//
// Norms are Euclidean. The best iterate is told by d: while z runs away, e may well fall. A sample
// that is not running is left as it is; its residual becomes NaN, so that a trace can tell.
// best_difference starts at infinity.
//
// Differences and sums are formed in double. A row is one thread's work on the CPU and one block's
// on CUDA, so results are the same bits for any thread count. Rows name different samples; nothing
// may alias. Squares that overflow a double count as not finite.
//
// Cost per element: 5 flops, 8 bytes; 16 where the row is the best so far.
#pragma once

#include <cstdint>

#include "kernels/common/status.h"
#include "kernels/common/stream.h"

namespace stillpoint::kernels {

constexpr int32_t kSolverRunning = 0;
constexpr int32_t kSolverConverged = 1;
constexpr int32_t kSolverNotFinite = 2;

template <class T>
struct SolverCheckArgs {
  const T* z;               // [rows, n]
  const T* fz;              // [rows, n]
  const int32_t* index;     // [rows], in [0, batch)
  T* best;                  // [batch, n]
  double* residual;         // [batch]
  double* best_difference;  // [batch]
  double* best_scale;       // [batch]
  int32_t* status;          // [batch]
  int64_t rows, n;
  double tolerance;
  bool relative;
};

// The end of an iteration in a loop that runs on the device, a conditional node of a CUDA graph:
// row `iteration` of the trace gets the residuals, the iteration is counted, and the condition says
// whether another follows: one does while a sample is running and fewer than `most` have been made.
struct SolverLoopArgs {
  const double* residual;        // [batch], as is
  const int32_t* status;         // [batch]
  double* trace;                 // [most, batch]
  int32_t* iteration;            // [1]
  unsigned long long condition;  // a cudaGraphConditionalHandle
  bool conditional;              // false: there is no graph around, and no condition to set
  int64_t batch;
  int32_t most;
};

namespace cpu {
void solver_check(const SolverCheckArgs<float>& args);
}  // namespace cpu

namespace cuda {
Status solver_check(const SolverCheckArgs<float>& args, Stream stream);
Status solver_loop(const SolverLoopArgs& args, Stream stream);
}  // namespace cuda

}  // namespace stillpoint::kernels
