// cuBLAS as the emulation provides it: types and functions, from cublas_api.inc. Stands in for the
// toolkit's header of the same name.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

using cublasHandle_t = struct cublasContext*;

enum cublasStatus_t : unsigned {};
enum cublasOperation_t : unsigned {};
#define STILLPOINT_CUDA_CONSTANT(type, name, value) inline constexpr type name{value};
#include "kernels/emulation/cublas_api.inc"

extern "C" {
#define STILLPOINT_CUDA_FUNCTION(result, name, parameters) result name parameters;
#include "kernels/emulation/cublas_api.inc"
}

// The toolkit's names for the functions' current versions.
#define cublasCreate cublasCreate_v2
#define cublasDestroy cublasDestroy_v2
#define cublasSetStream cublasSetStream_v2
#define cublasSetWorkspace cublasSetWorkspace_v2
#define cublasSgemm_64 cublasSgemm_v2_64
