// One dense product on the calling thread: what gemm_cpu.cpp cuts its work into. Two
// implementations, of which a build has one (STILLPOINT_PRODUCT): product_library.cpp calls oneDNN,
// product_reference.cpp is plain loops of our own that every sanitizer can look into.
#pragma once

#include <cstdint>

namespace stillpoint::kernels::cpu {

struct Product {
  const float* a;  // op(a) is [m, k]; rows of a start lda apart
  const float* b;  // op(b) is [k, n]
  float* out;      // [m, n]
  int64_t m, n, k;
  int64_t lda, ldb, ldo;
  bool transpose_a, transpose_b;
};

// All sizes above 0.
void product(const Product& p);

}  // namespace stillpoint::kernels::cpu
