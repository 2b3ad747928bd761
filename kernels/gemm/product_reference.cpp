// The product by our own loops, in tiles that stay in registers while k runs.
#include "kernels/gemm/product.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/gemm/product_reference.cpp"
#include <hwy/foreach_target.h>  // IWYU pragma: keep
#include <hwy/highway.h>

#include "kernels/gemm/tile-inl.h"

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

void whole_product(const Product& p) {
  if (p.transpose_b) {
    for (int64_t i = 0; i < p.m; ++i)
      for (int64_t j = 0; j < p.n; ++j) {
        p.out[i * p.ldo + j] = dot(p.a + i * (p.transpose_a ? 1 : p.lda), p.transpose_a ? p.lda : 1,
                                   p.b + j * p.ldb, p.k);
      }
    return;
  }
  const TileTerm term{.a = p.a,
                      .a_row = p.transpose_a ? 1 : p.lda,
                      .a_step = p.transpose_a ? p.lda : 1,
                      .b = p.b,
                      .b_row = p.ldb,
                      .k = p.k};
  tile_product(p.m, p.n, FromZero{}, TileStore{p.out, p.ldo}, term);
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
