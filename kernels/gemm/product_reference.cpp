// The product by our own loops: a tile of rows and vectors of columns stays in registers while k
// runs.
#include <algorithm>

#include "kernels/gemm/product.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/gemm/product_reference.cpp"
#include <hwy/foreach_target.h>  // IWYU pragma: keep
#include <hwy/highway.h>

#include "kernels/common/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace stillpoint::kernels::HWY_NAMESPACE {
namespace {

using cpu::Product;

float dot(const float* a, int64_t a_step, const float* b, int64_t n) {
  if (a_step != 1) {
    float sum = 0;
    for (int64_t l = 0; l < n; ++l) sum += a[l * a_step] * b[l];
    return sum;
  }
  V sum = hn::Zero(D());
  for_vectors(n,
              [&](auto io, int64_t l) { sum = hn::MulAdd(io.load(a + l), io.load(b + l), sum); });
  return sum_lanes(sum);
}

// Four rows at a time, or what is left of them.
template <int kRows>
void rows_by_columns(const Product& p, int64_t i) {
  const int64_t row_step = p.transpose_a ? 1 : p.lda, step = p.transpose_a ? p.lda : 1;
  const float* a = p.a + i * row_step;
  float* out = p.out + i * p.ldo;
  for_vectors(p.n, [&](auto io, int64_t j) {
    V sum[kRows];
    for (V& s : sum) s = hn::Zero(D());
    for (int64_t l = 0; l < p.k; ++l) {
      const V b = io.load(p.b + l * p.ldb + j);
      for (int r = 0; r < kRows; ++r)
        sum[r] = hn::MulAdd(hn::Set(D(), a[r * row_step + l * step]), b, sum[r]);
    }
    for (int r = 0; r < kRows; ++r) io.store(sum[r], out + r * p.ldo + j);
  });
}

void whole_product(const Product& p) {
  if (p.transpose_b) {
    for (int64_t i = 0; i < p.m; ++i)
      for (int64_t j = 0; j < p.n; ++j)
        p.out[i * p.ldo + j] = dot(p.a + i * (p.transpose_a ? 1 : p.lda), p.transpose_a ? p.lda : 1,
                                   p.b + j * p.ldb, p.k);
    return;
  }
  int64_t i = 0;
  for (; i + 4 <= p.m; i += 4) rows_by_columns<4>(p, i);
  for (; i < p.m; ++i) rows_by_columns<1>(p, i);
}

}  // namespace
}  // namespace stillpoint::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace stillpoint::kernels {
namespace {
HWY_EXPORT(whole_product);
}

void cpu::product(const Product& p) { HWY_DYNAMIC_DISPATCH(whole_product)(p); }

}  // namespace stillpoint::kernels
#endif  // HWY_ONCE
