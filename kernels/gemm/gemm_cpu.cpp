// gemm on the CPU: cuts the work into blocks that depend on the sizes alone, calls the product on
// each, and applies bias and activation while the block is in cache.
#include "kernels/gemm/gemm.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/gemm/gemm_cpu.cpp"
#include <hwy/foreach_target.h>  // IWYU pragma: keep
#include <hwy/highway.h>

#include "kernels/common/math-inl.h"
#include "kernels/common/parallel.h"
#include "kernels/gemm/product.h"

HWY_BEFORE_NAMESPACE();
namespace stillpoint::kernels::HWY_NAMESPACE {
namespace {

template <Activation kActivation>
void finish(const GemmArgs<float>& args, int64_t first, int64_t last) {
  for (int64_t i = first; i < last; ++i) {
    float* row = args.out + i * args.n;
    for_vectors(args.n, [&](auto io, int64_t j) {
      V v = io.load(row + j);
      if (args.bias != nullptr) v = hn::Add(v, io.load(args.bias + j));
      if constexpr (kActivation == Activation::relu)
        v = hn::IfThenZeroElse(hn::Lt(v, hn::Zero(D())), v);  // keeps NaN
      if constexpr (kActivation == Activation::sigmoid) v = sigmoid(v);
      if constexpr (kActivation == Activation::tanh) v = tanh(v);
      io.store(v, row + j);
    });
  }
}

// Bias and activation of rows [first, last).
void finish_rows(const GemmArgs<float>& args, int64_t first, int64_t last) {
  switch (args.activation) {
    case Activation::none:
      if (args.bias != nullptr) finish<Activation::none>(args, first, last);
      return;
    case Activation::relu:
      return finish<Activation::relu>(args, first, last);
    case Activation::sigmoid:
      return finish<Activation::sigmoid>(args, first, last);
    case Activation::tanh:
      return finish<Activation::tanh>(args, first, last);
  }
}

// Adds up the partial products of rows [first, last), in the order of k.
void add_parts(const GemmArgs<float>& args, int64_t parts, int64_t first, int64_t last) {
  const float* from = args.workspace + first * args.n;
  float* out = args.out + first * args.n;
  for_vectors((last - first) * args.n, [&](auto io, int64_t e) {
    V sum = io.load(from + e);
    for (int64_t part = 1; part < parts; ++part)
      sum = hn::Add(sum, io.load(from + part * args.m * args.n + e));
    io.store(sum, out + e);
  });
}

// out = sum over l of a(i, l) times row l of b.
void sums_of_rows(const cpu::Product& p) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(D()));
  const int64_t next_row = p.transpose_a ? 1 : p.lda, next_term = p.transpose_a ? p.lda : 1;
  for (int64_t i = 0; i < p.m; ++i)
    for_blocks<4>(p.n, [&](auto io, int64_t j, auto count) {
      V sum[count];
      each<count>([&](auto v) { sum[v] = hn::Zero(D()); });
      for (int64_t l = 0; l < p.k; ++l) {
        const V weight = hn::Set(D(), p.a[i * next_row + l * next_term]);
        each<count>([&](auto v) {
          sum[v] = hn::MulAdd(weight, io.load(p.b + l * p.ldb + j + v * lanes), sum[v]);
        });
      }
      each<count>([&](auto v) { io.store(sum[v], p.out + i * p.ldo + j + v * lanes); });
    });
}

// out [m, 1] from the rows of a and the vector b.
void inner_products(const cpu::Product& p) {
  for (int64_t i = 0; i < p.m; ++i) {
    V sum = hn::Zero(D());
    for_vectors(p.k, [&](auto io, int64_t l) {
      sum = hn::MulAdd(io.load(p.a + i * p.lda + l), io.load(p.b + l), sum);
    });
    p.out[i * p.ldo] = sum_lanes(sum);
  }
}

}  // namespace
}  // namespace stillpoint::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace stillpoint::kernels {
namespace {

HWY_EXPORT(finish_rows);
HWY_EXPORT(add_parts);
HWY_EXPORT(sums_of_rows);
HWY_EXPORT(inner_products);

// Rows per block: about 4 million multiply-adds, enough for the library to reach its rate.
int64_t block_rows(int64_t n, int64_t k) {
  const int64_t rows = (int64_t{1} << 22) / std::max<int64_t>(1, n * k) / 64 * 64;
  return std::clamp<int64_t>(rows, 128, 512);
}

// Rows [first, last) of the result from stretch [k_first, k_last) of the sum.
cpu::Product block(const GemmArgs<float>& args, int64_t first, int64_t last, int64_t k_first,
                   int64_t k_last, float* out) {
  const int64_t lda = args.transpose_a ? args.m : args.k;
  const int64_t ldb = args.transpose_b ? args.k : args.n;
  return {.a = args.a + (args.transpose_a ? k_first * lda + first : first * lda + k_first),
          .b = args.b + (args.transpose_b ? k_first : k_first * ldb),
          .out = out + first * args.n,
          .m = last - first,
          .n = args.n,
          .k = k_last - k_first,
          .lda = lda,
          .ldb = ldb,
          .ldo = args.n,
          .transpose_a = args.transpose_a,
          .transpose_b = args.transpose_b};
}

// Products with a vector read everything once, so that nothing is worth packing: loops of our own
// make them, but for a row times a transpose or a transpose times a column, and a program without
// others (SymbolNet in float32) never pays for the library's generated code, 7 MiB.
void multiply(const cpu::Product& p) {
  if ((p.m == 1 && !p.transpose_b) || p.k == 1) {
    HWY_DYNAMIC_DISPATCH(sums_of_rows)(p);
  } else if (p.n == 1 && !p.transpose_a) {
    HWY_DYNAMIC_DISPATCH(inner_products)(p);
  } else {
    cpu::product(p);
  }
}

}  // namespace

void cpu::gemm(const GemmArgs<float>& args) {
  if (args.m * args.n == 0) return;
  const int64_t parts = gemm_k_parts(args.m, args.k);
  if (parts > 1) {
    parallel_for(parts, 1, [&](int64_t part, int64_t) {
      multiply(block(args, 0, args.m, part * args.k / parts, (part + 1) * args.k / parts,
                     args.workspace + part * args.m * args.n));
    });
    parallel_for(args.m, std::max<int64_t>(1, 16384 / args.n), [&](int64_t first, int64_t last) {
      HWY_DYNAMIC_DISPATCH(add_parts)(args, parts, first, last);
      HWY_DYNAMIC_DISPATCH(finish_rows)(args, first, last);
    });
    return;
  }
  parallel_for(args.m, block_rows(args.n, args.k), [&](int64_t first, int64_t last) {
    if (args.k == 0) {
      std::fill(args.out + first * args.n, args.out + last * args.n, 0.f);
    } else {
      multiply(block(args, first, last, 0, args.k, args.out));
    }
    HWY_DYNAMIC_DISPATCH(finish_rows)(args, first, last);
  });
}

}  // namespace stillpoint::kernels
#endif  // HWY_ONCE
