// cuSPARSE's twin: the plain loops, run when the stream's turn comes. Refuses what the project does
// not use.
#include <cusparse.h>

#include <cstring>
#include <type_traits>

#include "kernels/emulation/emulation.h"

struct cusparseContext {
  cudaStream_t stream = nullptr;
};

struct cusparseSpMatDescr {
  int64_t rows, cols, entries;
  const int32_t *offsets, *indices;
  const float* values;
  int batch = 1;
};

struct cusparseDnMatDescr {
  int64_t rows, cols, stride;
  float* values;
  int batch = 1;
};

namespace {

// What the real one needs is its own business; this is enough to notice a caller that passes less.
size_t workspace_bytes(const cusparseSpMatDescr& a) {
  return static_cast<size_t>(a.rows + 1) * sizeof(int32_t);
}

cusparseStatus_t check(cusparseHandle_t handle, cusparseOperation_t op_a, cusparseOperation_t op_b,
                       const void* alpha, cusparseConstSpMatDescr_t a, cusparseConstDnMatDescr_t x,
                       const void* beta, cusparseDnMatDescr_t out, cudaDataType compute,
                       cusparseSpMMAlg_t algorithm) {
  if (handle == nullptr) return CUSPARSE_STATUS_NOT_INITIALIZED;
  if (alpha == nullptr || beta == nullptr || a == nullptr || x == nullptr || out == nullptr ||
      a->cols != x->rows || a->rows != out->rows || x->cols != out->cols || a->batch != x->batch ||
      a->batch != out->batch) {
    return CUSPARSE_STATUS_INVALID_VALUE;
  }
  if (op_a != CUSPARSE_OPERATION_NON_TRANSPOSE || op_b != CUSPARSE_OPERATION_NON_TRANSPOSE ||
      compute != CUDA_R_32F || algorithm != CUSPARSE_SPMM_CSR_ALG2) {
    return CUSPARSE_STATUS_NOT_SUPPORTED;
  }
  return CUSPARSE_STATUS_SUCCESS;
}

void multiply(float alpha, const cusparseSpMatDescr& a, const cusparseDnMatDescr& x, float beta,
              const cusparseDnMatDescr& out) {
  for (int b = 0; b < a.batch; ++b)
    for (int64_t i = 0; i < a.rows; ++i)
      for (int64_t k = 0; k < x.cols; ++k) {
        float sum = 0;
        for (int32_t e = a.offsets[i]; e < a.offsets[i + 1]; ++e)
          sum += a.values[e] * x.values[b * x.stride + a.indices[e] * x.cols + k];
        float& to = out.values[b * out.stride + i * out.cols + k];
        to = alpha * sum + (beta == 0 ? 0 : beta * to);
      }
}

}  // namespace

extern "C" {

cusparseStatus_t cusparseCreate(cusparseHandle_t* handle) {
  *handle = new cusparseContext;
  return CUSPARSE_STATUS_SUCCESS;
}

cusparseStatus_t cusparseDestroy(cusparseHandle_t handle) {
  delete handle;
  return CUSPARSE_STATUS_SUCCESS;
}

cusparseStatus_t cusparseSetStream(cusparseHandle_t handle, cudaStream_t stream) {
  if (handle == nullptr) return CUSPARSE_STATUS_NOT_INITIALIZED;
  handle->stream = stream;
  return CUSPARSE_STATUS_SUCCESS;
}

cusparseStatus_t cusparseCreateCsr(cusparseSpMatDescr_t* matrix, int64_t rows, int64_t cols,
                                   int64_t entries, void* offsets, void* indices, void* values,
                                   cusparseIndexType_t offset_type, cusparseIndexType_t index_type,
                                   cusparseIndexBase_t base, cudaDataType type) {
  // No entries: nothing the project asks of the library.
  if (rows <= 0 || cols <= 0 || entries <= 0 || offsets == nullptr || indices == nullptr ||
      values == nullptr) {
    return CUSPARSE_STATUS_INVALID_VALUE;
  }
  if (offset_type != CUSPARSE_INDEX_32I || index_type != CUSPARSE_INDEX_32I ||
      base != CUSPARSE_INDEX_BASE_ZERO || type != CUDA_R_32F) {
    return CUSPARSE_STATUS_NOT_SUPPORTED;
  }
  *matrix = new cusparseSpMatDescr{rows,
                                   cols,
                                   entries,
                                   static_cast<const int32_t*>(offsets),
                                   static_cast<const int32_t*>(indices),
                                   static_cast<const float*>(values)};
  return CUSPARSE_STATUS_SUCCESS;
}

cusparseStatus_t cusparseCsrSetStridedBatch(cusparseSpMatDescr_t matrix, int batch,
                                            int64_t offsets_stride, int64_t values_stride) {
  if (matrix == nullptr || batch <= 0) return CUSPARSE_STATUS_INVALID_VALUE;
  if (offsets_stride != 0 || values_stride != 0) return CUSPARSE_STATUS_NOT_SUPPORTED;
  matrix->batch = batch;
  return CUSPARSE_STATUS_SUCCESS;
}

cusparseStatus_t cusparseDestroySpMat(cusparseConstSpMatDescr_t matrix) {
  delete matrix;
  return CUSPARSE_STATUS_SUCCESS;
}

cusparseStatus_t cusparseCreateDnMat(cusparseDnMatDescr_t* matrix, int64_t rows, int64_t cols,
                                     int64_t leading, void* values, cudaDataType type,
                                     cusparseOrder_t order) {
  if (rows < 0 || cols < 0 || leading < cols || values == nullptr) {
    return CUSPARSE_STATUS_INVALID_VALUE;
  }
  if (type != CUDA_R_32F || order != CUSPARSE_ORDER_ROW || leading != cols) {
    return CUSPARSE_STATUS_NOT_SUPPORTED;
  }
  *matrix = new cusparseDnMatDescr{rows, cols, rows * cols, static_cast<float*>(values)};
  return CUSPARSE_STATUS_SUCCESS;
}

cusparseStatus_t cusparseDnMatSetStridedBatch(cusparseDnMatDescr_t matrix, int batch,
                                              int64_t stride) {
  if (matrix == nullptr || batch <= 0 || stride < matrix->rows * matrix->cols) {
    return CUSPARSE_STATUS_INVALID_VALUE;
  }
  matrix->batch = batch;
  matrix->stride = stride;
  return CUSPARSE_STATUS_SUCCESS;
}

cusparseStatus_t cusparseDestroyDnMat(cusparseConstDnMatDescr_t matrix) {
  delete matrix;
  return CUSPARSE_STATUS_SUCCESS;
}

cusparseStatus_t cusparseSpMM_bufferSize(cusparseHandle_t handle, cusparseOperation_t op_a,
                                         cusparseOperation_t op_b, const void* alpha,
                                         cusparseConstSpMatDescr_t a, cusparseConstDnMatDescr_t x,
                                         const void* beta, cusparseDnMatDescr_t out,
                                         cudaDataType compute, cusparseSpMMAlg_t algorithm,
                                         size_t* bytes) {
  const cusparseStatus_t status =
      check(handle, op_a, op_b, alpha, a, x, beta, out, compute, algorithm);
  if (status == CUSPARSE_STATUS_SUCCESS) *bytes = workspace_bytes(*a);
  return status;
}

// Descriptors and scalars are read now, the matrices when the stream gets here.
cusparseStatus_t cusparseSpMM(cusparseHandle_t handle, cusparseOperation_t op_a,
                              cusparseOperation_t op_b, const void* alpha,
                              cusparseConstSpMatDescr_t a, cusparseConstDnMatDescr_t x,
                              const void* beta, cusparseDnMatDescr_t out, cudaDataType compute,
                              cusparseSpMMAlg_t algorithm, void* workspace) {
  const cusparseStatus_t status =
      check(handle, op_a, op_b, alpha, a, x, beta, out, compute, algorithm);
  if (status != CUSPARSE_STATUS_SUCCESS) return status;
  if (workspace == nullptr) return CUSPARSE_STATUS_INVALID_VALUE;
  const float scale = *static_cast<const float*>(alpha), keep = *static_cast<const float*>(beta);
  const cudaError_t queued = stillpoint::emulation::enqueue(
      handle->stream, "cusparseSpMM", [scale, keep, matrix = *a, from = *x, to = *out, workspace] {
        std::memset(workspace, 0xff, workspace_bytes(matrix));
        multiply(scale, matrix, from, keep, to);
      });
  return queued == cudaSuccess ? CUSPARSE_STATUS_SUCCESS : CUSPARSE_STATUS_EXECUTION_FAILED;
}

const char* cusparseGetErrorName(cusparseStatus_t status) {
#define STILLPOINT_CUDA_CONSTANT(type, name, value) \
  if (std::is_same_v<type, cusparseStatus_t> && status == value) return #name;
#include "kernels/emulation/cusparse_api.inc"
  return "an unknown status";
}

}  // extern "C"
