// The one place that calls cuSPARSE: its generic product of a CSR matrix with row-major matrices.
// The batch is handed over as it lies: the same sparse matrix for every sample (stride 0), x and
// out one sample apart.
#pragma once

#include <cusparse.h>

#include <cstddef>

#include "kernels/spmm/spmm.h"

namespace stillpoint::kernels::cuda {

// The descriptors of one product: host objects, made for one call.
class CusparseProduct {
 public:
  CusparseProduct(const SpmmArgs<float>& args, cusparseContext* handle) : handle_(handle) {
    const CsrView& p = args.pattern;
    const int batch = static_cast<int>(args.batch);
    // Only descriptors that may be written take a batch; nothing but out is written.
    run("cusparseCreateCsr", [&] {
      return cusparseCreateCsr(&a_, p.rows, p.cols, p.entries, const_cast<int32_t*>(p.offsets),
                               const_cast<int32_t*>(p.indices), const_cast<float*>(args.values),
                               CUSPARSE_INDEX_32I, CUSPARSE_INDEX_32I, CUSPARSE_INDEX_BASE_ZERO,
                               CUDA_R_32F);
    });
    run("cusparseCsrSetStridedBatch", [&] { return cusparseCsrSetStridedBatch(a_, batch, 0, 0); });
    dense(&x_, const_cast<float*>(args.x), p.cols, args.channels, batch);
    dense(&out_, args.out, p.rows, args.channels, batch);
  }
  CusparseProduct(const CusparseProduct&) = delete;
  CusparseProduct& operator=(const CusparseProduct&) = delete;
  ~CusparseProduct() {
    if (a_ != nullptr) (void)cusparseDestroySpMat(a_);
    if (x_ != nullptr) (void)cusparseDestroyDnMat(x_);
    if (out_ != nullptr) (void)cusparseDestroyDnMat(out_);
  }

  Status workspace(size_t* bytes) {
    run("cusparseSpMM_bufferSize", [&] {
      return cusparseSpMM_bufferSize(handle_, kPlain, kPlain, &kOne, a_, x_, &kZero, out_,
                                     CUDA_R_32F, kAlgorithm, bytes);
    });
    return status_;
  }

  Status multiply(void* workspace, Stream stream) {
    run("cusparseSetStream", [&] { return cusparseSetStream(handle_, stream); });
    run("cusparseSpMM", [&] {
      return cusparseSpMM(handle_, kPlain, kPlain, &kOne, a_, x_, &kZero, out_, CUDA_R_32F,
                          kAlgorithm, workspace);
    });
    return status_;
  }

 private:
  static constexpr cusparseOperation_t kPlain = CUSPARSE_OPERATION_NON_TRANSPOSE;
  // The one made for row-major operands and batches.
  static constexpr cusparseSpMMAlg_t kAlgorithm = CUSPARSE_SPMM_CSR_ALG2;
  static constexpr float kOne = 1.f, kZero = 0.f;

  // Makes the call unless one before it failed.
  template <class Call>
  void run(const char* name, Call call) {
    if (status_.ok()) status_ = {static_cast<int>(call()), Status::Source::cusparse, name};
  }

  void dense(cusparseDnMatDescr_t* matrix, float* data, int64_t rows, int64_t channels, int batch) {
    run("cusparseCreateDnMat", [&] {
      return cusparseCreateDnMat(matrix, rows, channels, channels, data, CUDA_R_32F,
                                 CUSPARSE_ORDER_ROW);
    });
    run("cusparseDnMatSetStridedBatch",
        [&] { return cusparseDnMatSetStridedBatch(*matrix, batch, rows * channels); });
  }

  cusparseContext* handle_;
  cusparseSpMatDescr_t a_ = nullptr;
  cusparseDnMatDescr_t x_ = nullptr, out_ = nullptr;
  Status status_;
};

}  // namespace stillpoint::kernels::cuda
