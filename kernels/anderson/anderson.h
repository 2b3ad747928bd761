// anderson: one step of Anderson acceleration for every row of z and fz = f(z). Row r belongs to
// sample b = index[r]; with g = fz - z the residual and dz, dg the differences of the last
// iterates and residuals, of which `memory` are kept,
//
//   gamma = argmin |g - sum_j gamma_j dg_j|^2 + ridge sum_j gamma_j^2 |dg_j|^2
//   next  = z + mixing g - sum_j gamma_j (dz_j + mixing dg_j)
//
// Anderson 1965; in this form ("type II", differences) Walker, Ni: "Anderson acceleration for
// fixed-point iterations", SIAM J. Numer. Anal. 49, 2011. The least squares are solved by their
// normal equations, every dg_j scaled to length 1 first, so that the ridge is relative to the
// diagonal and says the same for residuals of any size: what is nearly parallel to the rest gets
// little weight, and none if its pivot falls below kAndersonPivot. A history without information (a
// sample that does not move) thus gives gamma = 0, the damped step.
//
// Far from a fixed point a linear model of a map that is not linear holds the search up: as long as
// |g| > begin |fz| the history is empty, and the step the damped one.
//
// Differences and next are formed in T, inner products (the Gram matrix) and the solve in double.
// `count` is how many iterates the history is made from, 0 at first; the difference that the one
// after `count` others makes goes to slot (count - 1) % memory. Kept are the dg_j and, because next
// is all that dz_j is for, the moves dz_j + mixing dg_j. Until there is a next iterate, its slot
// keeps what it will be subtracted from: g among the dg, z among the moves. A sample whose status
// is not kSolverRunning keeps its state, and next is z. A row is one thread's work on the CPU and
// one block's on CUDA, so results are the same bits for any thread count. next may be z; nothing
// else may alias.
//
// Cost per element with m differences: 6 m + 8 flops, and 8 m + 40 bytes, what each of the passes
// (history with Gram matrix, next) touches counted once; CUDA passes once more for the matrix.
#pragma once

#include <cstdint>

#include "kernels/common/status.h"
#include "kernels/common/stream.h"

namespace stillpoint::kernels {

constexpr int kAndersonMemory = 32;  // the most: a lane of a warp each
constexpr double kAndersonPivot = 1e-12;

template <class T>
struct AndersonArgs {
  const T* z;             // [rows, n]
  const T* fz;            // [rows, n]
  const int32_t* index;   // [rows], in [0, batch)
  const int32_t* status;  // [batch]
  T* moves;               // [batch, memory, n]
  T* dg;                  // [batch, memory, n]
  double* gram;           // [batch, memory, memory]
  int32_t* count;         // [batch]
  T* next;                // [rows, n]
  int64_t rows, n;
  int memory;  // 1 to kAndersonMemory
  double mixing, ridge;
  double begin;  // infinite: the history is used from the start
};

namespace cpu {
void anderson(const AndersonArgs<float>& args);
}  // namespace cpu

namespace cuda {
Status anderson(const AndersonArgs<float>& args, Stream stream);
}  // namespace cuda

}  // namespace stillpoint::kernels
