// gemm: dense products with bias and activation.
//
//   out[i, j] = act(sum_l op(a)[i, l] op(b)[l, j] + bias[j])
//
// op(x) is x or its transpose; all matrices are row-major without gaps. k = 0 gives act(bias). The
// outputs may not alias the inputs.
//
// Products are formed by a library (CPU: oneDNN but for vectors, docs/decisions/0001; CUDA:
// cuBLAS), bias and activation by a pass over the result. On the CPU the library runs on one thread
// per block of the result, and the blocks depend on the sizes alone: rows of the result, or, where
// the result is small and k is long (weight gradients), stretches of k whose partial products are
// added in their order. So the result is the same bits for any number of threads. On CUDA it is the
// same in every run on a device, as cuBLAS is for one stream with a fixed workspace.
//
// Cost: 2 m n k flops; 4 (m k + k n + m n) bytes, and on CUDA 8 m n more for bias and activation.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/common/status.h"
#include "kernels/common/stream.h"

struct cublasContext;

namespace stillpoint::kernels {

enum class Activation : uint8_t { none, relu, sigmoid, tanh };

template <class T>
struct GemmArgs {
  const T* a;     // [m, k], or [k, m] if transpose_a
  const T* b;     // [k, n], or [n, k] if transpose_b
  const T* bias;  // [n] or null
  T* out;         // [m, n]
  T* workspace;   // [gemm_workspace(m, n, k)], used by the CPU only
  int64_t m, n, k;
  bool transpose_a, transpose_b;
  Activation activation = Activation::none;
  cublasContext* cublas = nullptr;  // the library's handle, for CUDA
};

// Parts that k is cut into: more than one where the result has too few rows to share out.
inline int64_t gemm_k_parts(int64_t m, int64_t k) {
  constexpr int64_t kRows = 512, kPart = 1024, kMostParts = 16;
  return m > kRows || k < 2 * kPart ? 1 : std::min(kMostParts, (k + kPart - 1) / kPart);
}
// Elements of workspace: the partial products.
inline int64_t gemm_workspace(int64_t m, int64_t n, int64_t k) {
  const int64_t parts = gemm_k_parts(m, k);
  return parts == 1 ? 0 : parts * m * n;
}

namespace cpu {
void gemm(const GemmArgs<float>& args);
}

namespace cuda {
Status gemm(const GemmArgs<float>& args, Stream stream);
}

}  // namespace stillpoint::kernels
