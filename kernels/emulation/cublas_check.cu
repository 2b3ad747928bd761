// Compiled by the cuda build only: what cublas_api.inc says of cuBLAS must be what the toolkit
// says.
#include <cublas_v2.h>

#include <cstdint>
#include <type_traits>

#define STILLPOINT_CUDA_FUNCTION(result, name, parameters) \
  static_assert(std::is_same_v<decltype(&name), result(*) parameters>, #name);
#define STILLPOINT_CUDA_CONSTANT(type, name, value) \
  static_assert(name == static_cast<type>(value), #name);
#include "kernels/emulation/cublas_api.inc"
