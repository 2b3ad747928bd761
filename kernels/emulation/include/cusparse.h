// cuSPARSE as the emulation provides it: types and functions, from cusparse_api.inc. Stands in for
// the toolkit's header of the same name.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

using cusparseHandle_t = struct cusparseContext*;
using cusparseSpMatDescr_t = struct cusparseSpMatDescr*;
using cusparseDnMatDescr_t = struct cusparseDnMatDescr*;
using cusparseConstSpMatDescr_t = const struct cusparseSpMatDescr*;
using cusparseConstDnMatDescr_t = const struct cusparseDnMatDescr*;

enum cusparseStatus_t : unsigned {};
enum cusparseOperation_t : unsigned {};
enum cusparseIndexType_t : unsigned {};
enum cusparseIndexBase_t : unsigned {};
enum cusparseOrder_t : unsigned {};
enum cusparseSpMMAlg_t : unsigned {};
enum cudaDataType : unsigned {};
#define STILLPOINT_CUDA_CONSTANT(type, name, value) inline constexpr type name{value};
#include "kernels/emulation/cusparse_api.inc"

extern "C" {
#define STILLPOINT_CUDA_FUNCTION(result, name, parameters) result name parameters;
#include "kernels/emulation/cusparse_api.inc"
}
