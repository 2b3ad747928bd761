// The emulation's cuBLAS: the same checks of the arguments, and the product by its definition when
// the stream's turn comes.
#include <cublas_v2.h>

#include <algorithm>
#include <type_traits>

#include "kernels/emulation/emulation.h"

struct cublasContext {
  cudaStream_t stream = nullptr;
};

namespace {

// Column-major, as cuBLAS counts: c [m, n] = alpha op(a) op(b) + beta c.
struct Product {
  bool transpose_a, transpose_b;
  int64_t m, n, k;
  float alpha;
  const float* a;
  int64_t lda;
  const float* b;
  int64_t ldb;
  float beta;
  float* c;
  int64_t ldc;

  bool valid() const {
    const auto at_least = [](int64_t stride, int64_t rows) {
      return stride >= std::max<int64_t>(1, rows);
    };
    return m >= 0 && n >= 0 && k >= 0 && at_least(lda, transpose_a ? k : m) &&
           at_least(ldb, transpose_b ? n : k) && at_least(ldc, m);
  }
  void run() const {
    const int64_t a_row = transpose_a ? lda : 1, a_step = transpose_a ? 1 : lda;
    const int64_t b_column = transpose_b ? 1 : ldb, b_step = transpose_b ? ldb : 1;
    for (int64_t j = 0; j < n; ++j)
      for (int64_t i = 0; i < m; ++i) {
        float sum = 0;
        for (int64_t l = 0; l < k; ++l)
          sum += a[i * a_row + l * a_step] * b[j * b_column + l * b_step];
        float& out = c[i + j * ldc];
        out = beta == 0 ? alpha * sum : alpha * sum + beta * out;
      }
  }
};

}  // namespace

extern "C" {

cublasStatus_t cublasCreate_v2(cublasHandle_t* handle) {
  if (handle == nullptr) return CUBLAS_STATUS_INVALID_VALUE;
  *handle = new cublasContext;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasDestroy_v2(cublasHandle_t handle) {
  if (handle == nullptr) return CUBLAS_STATUS_NOT_INITIALIZED;
  delete handle;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetStream_v2(cublasHandle_t handle, cudaStream_t stream) {
  if (handle == nullptr) return CUBLAS_STATUS_NOT_INITIALIZED;
  handle->stream = stream;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetWorkspace_v2(cublasHandle_t handle, void* workspace, size_t) {
  if (handle == nullptr) return CUBLAS_STATUS_NOT_INITIALIZED;
  const bool aligned = reinterpret_cast<uintptr_t>(workspace) % 256 == 0;
  return aligned ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasSgemm_v2_64(cublasHandle_t handle, cublasOperation_t transpose_a,
                                 cublasOperation_t transpose_b, int64_t m, int64_t n, int64_t k,
                                 const float* alpha, const float* a, int64_t lda, const float* b,
                                 int64_t ldb, const float* beta, float* c, int64_t ldc) {
  if (handle == nullptr) return CUBLAS_STATUS_NOT_INITIALIZED;
  if (alpha == nullptr || beta == nullptr) return CUBLAS_STATUS_INVALID_VALUE;
  const Product product{transpose_a == CUBLAS_OP_T,
                        transpose_b == CUBLAS_OP_T,
                        m,
                        n,
                        k,
                        *alpha,
                        a,
                        lda,
                        b,
                        ldb,
                        *beta,
                        c,
                        ldc};
  if (!product.valid()) return CUBLAS_STATUS_INVALID_VALUE;
  const cudaError_t code =
      stillpoint::emulation::enqueue(handle->stream, "cublasSgemm", [product] { product.run(); });
  return code == cudaSuccess ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_EXECUTION_FAILED;
}

const char* cublasGetStatusName(cublasStatus_t status) {
#define STILLPOINT_CUDA_CONSTANT(type, name, value) \
  if (std::is_same_v<type, cublasStatus_t> && status == value) return #name;
#include "kernels/emulation/cublas_api.inc"
  return "an unknown status";
}

}  // extern "C"
