// In which numbers products of matrices are computed; everything else is float32.
#pragma once

#include <cstdint>

namespace stillpoint::kernels {

enum class Precision : uint8_t {
  f32,
  bf16,  // operands rounded to bfloat16, sums in float32 (kernels/gemm/bf16.h)
};

}  // namespace stillpoint::kernels
