// cuBLAS behind one function: row-major products. For .cu files only.
#pragma once

#include <cublas_v2.h>

#include <algorithm>
#include <cstdint>

#include "kernels/common/status.h"
#include "kernels/common/stream.h"

namespace stillpoint::kernels::cuda {

// out [m, n] = op(a) op(b), on the stream and in the workspace that the handle was given. cuBLAS
// counts columns first: to it a row-major matrix is its transpose, and out^T = op(b)^T op(a)^T. m,
// n and k are above 0.
inline Status cublas_product(cublasHandle_t handle, bool transpose_a, bool transpose_b, int64_t m,
                             int64_t n, int64_t k, const float* a, const float* b, float* out) {
  const auto operation = [](bool transpose) { return transpose ? CUBLAS_OP_T : CUBLAS_OP_N; };
  const auto stride = [](int64_t columns) { return std::max<int64_t>(1, columns); };
  const float one = 1.f, zero = 0.f;
  const cublasStatus_t status =
      cublasSgemm_64(handle, operation(transpose_b), operation(transpose_a), n, m, k, &one, b,
                     stride(transpose_b ? k : n), a, stride(transpose_a ? m : k), &zero, out, n);
  return {static_cast<int>(status), Status::Source::cublas, "cublasSgemm"};
}

}  // namespace stillpoint::kernels::cuda
