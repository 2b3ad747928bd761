// refine_factor: several refinements of a network of variables and factors (SymbolNet) as one op.
// Variables i have states h_i and a clue kind each; a factor f is one of a few types t(f) and has
// variables as members. One refinement:
//
//   m_i  = relu(W_m h_i + b_m)
//   s_f  = sum over members i of m_i          p_f = relu(F_t s_f + b_t)
//   u_i  = relu(W_h h_i + W_q m_i + clue[kind_i] + sum over factors f of i of V_t p_f)
//   y_i  = h_i + W_u u_i + b_u                r_i = 1 / sqrt(mean(y_i^2) + epsilon)
//   h'_i = r_i y_i
//
// The columns of the update that read factors, V, are applied once per factor and not once per
// variable: on a 9x9 board (729 variables in 4 of 324 factors) 17 C^2 flops a variable and
// refinement, not 31.
//
// Boards are independent and each goes through all refinements before the next begins, so that what
// it needs (0.9 MB for 9x9, C = 32) stays in cache. The forward keeps u and r of every refinement
// if a gradient is wanted; the backward computes m, s and p again, but on the CPU, where keeping
// them too saves 3 % of a training step of SymbolNet. Gradients of the parameters are added up over
// at most kRefineFactorChunks groups of boards that depend on the number of boards alone, then over
// the groups in their order: the same bits for any number of threads. On CUDA there is a group for
// each multiprocessor, and the variables of a board are added up in three parts: the same bits in
// every run on a device of that kind.
//
// Outputs may not alias inputs. NaN in a state spreads over its board. At a kink, u = 0 or m = 0 or
// p = 0, the derivative of relu is 0.
//
// Cost per variable and refinement with H = hidden, F factors and N variables: forward 2 C^2 +
// 4 C H + 2 H C + F/N (2 C^2 + 2 C H) flops; backward twice that, or once if no gradients of the
// parameters are wanted, and on CUDA 2 C^2 + F/N 2 C^2 again.
#pragma once

#include <cstdint>

#include "kernels/common/csr.h"
#include "kernels/common/portable.h"
#include "kernels/common/precision.h"
#include "kernels/common/status.h"
#include "kernels/common/stream.h"

namespace stillpoint::kernels {

// Factors of one type lie together: type t has the factors [first[t], first[t + 1]).
struct FactorTypes {
  static constexpr int kMost = 4;
  int count = 0;
  int32_t first[kMost + 1] = {};
};

struct RefineFactorSizes {
  int64_t boards, nodes, channels, hidden;
  int64_t kinds;  // of clues
  int64_t steps;
  FactorTypes types;
  double epsilon;
  Precision precision = Precision::f32;  // of products; not on CUDA

  STILLPOINT_HD int64_t factors() const { return types.first[types.count]; }
};

// The parameters, or their gradients: P is a pointer.
template <class P>
struct RefineFactorParameters {
  P message;       // W_m [C, C]
  P message_bias;  // b_m [C]
  P factor;        // F [types, C, C]
  P factor_bias;   // b_t [types, C]
  P collect;       // V [hidden, types, C]
  P own;           // W_h and W_q side by side [hidden, 2, C]
  P clue;          // [kinds, hidden]
  P update;        // W_u [C, hidden]
  P update_bias;   // b_u [C]
};

// The parameters in one piece of memory, one behind the other.
template <class T>
STILLPOINT_HD RefineFactorParameters<T*> split_parameters(T* all, const RefineFactorSizes& s) {
  const int64_t c = s.channels, n = s.hidden, types = s.types.count;
  RefineFactorParameters<T*> p;
  p.message = all;
  p.message_bias = p.message + c * c;
  p.factor = p.message_bias + c;
  p.factor_bias = p.factor + types * c * c;
  p.collect = p.factor_bias + types * c;
  p.own = p.collect + n * types * c;
  p.clue = p.own + 2 * n * c;
  p.update = p.clue + s.kinds * n;
  p.update_bias = p.update + c * n;
  return p;
}
inline int64_t parameter_count(const RefineFactorSizes& s) {
  const int64_t c = s.channels, n = s.hidden, types = s.types.count;
  return c * c + c + types * (c * c + c + n * c) + 3 * n * c + s.kinds * n + c;
}

// m of every variable, s and p of every factor of a board.
inline int64_t message_count(const RefineFactorSizes& s) {
  return (s.nodes + 2 * s.factors()) * s.channels;
}

template <class T>
struct RefineFactorArgs {
  RefineFactorSizes sizes;
  CsrView members;       // factors by variables
  CsrView factors;       // its transpose
  const T* h;            // [boards, nodes, C]
  const int32_t* clues;  // [boards, nodes], in [0, kinds)
  RefineFactorParameters<const T*> parameters;
  T* states;    // [steps, boards, nodes, C] h_1, h_2, ...; without u and r only the last, [boards,
                // ...]
  T* u;         // [steps, boards, nodes, hidden], or null
  T* r;         // [steps, boards, nodes], or null
  T* messages;  // [steps, boards, message_count(sizes)] m, s, p, or null; CPU alone
  T* workspace;
};

template <class T>
struct RefineFactorBackwardArgs {
  RefineFactorSizes sizes;
  CsrView members, factors;
  const T* h;
  const int32_t* clues;
  RefineFactorParameters<const T*> parameters;
  const T *states, *u, *r;  // from the forward, and so
  const T* messages;        // on the CPU; elsewhere null
  const T* g;               // [steps, boards, nodes, C], of the states
  T* dh;                    // [boards, nodes, C]
  T* dparameters;           // [parameter_count], split as split_parameters says; or null
  T* workspace;
};

constexpr int64_t kRefineFactorChunks = 32;

namespace cpu {
// Numbers that the workspace must hold; both depend on num_threads().
int64_t refine_factor_workspace(const RefineFactorSizes& sizes);
int64_t refine_factor_backward_workspace(const RefineFactorSizes& sizes);
void refine_factor(const RefineFactorArgs<float>& args);
void refine_factor_backward(const RefineFactorBackwardArgs<float>& args);
}  // namespace cpu

namespace cuda {
int64_t refine_factor_workspace(const RefineFactorSizes& sizes);
int64_t refine_factor_backward_workspace(const RefineFactorSizes& sizes);
Status refine_factor(const RefineFactorArgs<float>& args, Stream stream);
Status refine_factor_backward(const RefineFactorBackwardArgs<float>& args, Stream stream);
}  // namespace cuda

}  // namespace stillpoint::kernels
