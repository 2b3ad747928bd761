// Elementwise functions on the CPU: whole vectors, then the rest of a row through a padded vector,
// so that an element's value does not depend on where it stands.
#include "kernels/elementwise/elementwise.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/elementwise/elementwise_cpu.cpp"
#include <hwy/foreach_target.h>  // IWYU pragma: keep
#include <hwy/highway.h>

#include <algorithm>

#include "kernels/common/math-inl.h"
#include "kernels/common/parallel.h"

HWY_BEFORE_NAMESPACE();
namespace stillpoint::kernels::HWY_NAMESPACE {
namespace {

// The words of functions.h, for vectors.
template <class Vector>
HWY_INLINE Vector constant(double c) {
  return hn::Set(D(), static_cast<float>(c));
}
HWY_INLINE V zero_if_negative(V x) {
  return hn::IfThenZeroElse(hn::Lt(x, hn::Zero(D())), x);  // keeps NaN
}
HWY_INLINE V where_positive(V x, V y) { return hn::IfThenElseZero(hn::Gt(x, hn::Zero(D())), y); }
HWY_INLINE V exponential(V x) { return exp(x); }
HWY_INLINE V logarithm(V x) { return log(x); }
HWY_INLINE V square_root(V x) { return hn::Sqrt(x); }
HWY_INLINE V hyperbolic_tangent(V x) { return tanh(x); }
HWY_INLINE V logistic(V x) { return sigmoid(x); }

namespace unary {
STILLPOINT_UNARY_FUNCTIONS(STILLPOINT_UNARY_STRUCT)
}
namespace binary {
STILLPOINT_BINARY_FUNCTIONS(STILLPOINT_BINARY_STRUCT)
}

template <class F>
void unary_loop(const UnaryArgs<float>& args, int64_t begin, int64_t end) {
  const V p = hn::Set(D(), args.p), q = hn::Set(D(), args.q);
  const float* x = args.x + begin;
  float* out = args.out + begin;
  for_vectors(end - begin,
              [&](auto io, int64_t i) { io.store(F::of(io.load(x + i), p, q), out + i); });
}

// An operand within one row: a run of elements, or one value for all of them.
struct Elements {
  const float* p;
  template <class Io>
  HWY_INLINE V load(Io io, int64_t i) const {
    return io.load(p + i);
  }
};
struct OneValue {
  V value;
  template <class Io>
  HWY_INLINE V load(Io, int64_t) const {
    return value;
  }
};

template <class F, class A, class B>
void binary_run(A a, B b, float* out, int64_t n) {
  for_vectors(n,
              [&](auto io, int64_t i) { io.store(F::of(a.load(io, i), b.load(io, i)), out + i); });
}

template <class F>
void binary_loop(const BinaryArgs<float>& args, int64_t begin, int64_t end) {
  if (args.a_spread == Spread::full && args.b_spread == Spread::full) {
    binary_run<F>(Elements{args.a + begin}, Elements{args.b + begin}, args.out + begin,
                  end - begin);
    return;
  }
  for (int64_t i = begin; i < end;) {
    const int64_t row = i / args.columns, column = i % args.columns;
    const int64_t length = std::min(args.columns - column, end - i);
    const float* a = args.a + spread_index(args.a_spread, i, row, column);
    const float* b = args.b + spread_index(args.b_spread, i, row, column);
    if (args.a_spread == Spread::per_row) {
      binary_run<F>(OneValue{hn::Set(D(), *a)}, Elements{b}, args.out + i, length);
    } else if (args.b_spread == Spread::per_row) {
      binary_run<F>(Elements{a}, OneValue{hn::Set(D(), *b)}, args.out + i, length);
    } else {
      binary_run<F>(Elements{a}, Elements{b}, args.out + i, length);
    }
    i += length;
  }
}

void unary_range(const UnaryArgs<float>& args, int64_t begin, int64_t end) {
#define STILLPOINT_CASE(name, expression) \
  case UnaryFunction::name:               \
    return unary_loop<unary::name>(args, begin, end);
  switch (args.function) { STILLPOINT_UNARY_FUNCTIONS(STILLPOINT_CASE) }
#undef STILLPOINT_CASE
}

void binary_range(const BinaryArgs<float>& args, int64_t begin, int64_t end) {
#define STILLPOINT_CASE(name, expression) \
  case BinaryFunction::name:              \
    return binary_loop<binary::name>(args, begin, end);
  switch (args.function) { STILLPOINT_BINARY_FUNCTIONS(STILLPOINT_CASE) }
#undef STILLPOINT_CASE
}

}  // namespace
}  // namespace stillpoint::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace stillpoint::kernels {
namespace {

HWY_EXPORT(unary_range);
HWY_EXPORT(binary_range);

constexpr int64_t kElements = 16384;  // a chunk: 64 KiB of output, a few microseconds

}  // namespace

void cpu::unary(const UnaryArgs<float>& args) {
  parallel_for(args.n, kElements, [&](int64_t begin, int64_t end) {
    HWY_DYNAMIC_DISPATCH(unary_range)(args, begin, end);
  });
}

void cpu::binary(const BinaryArgs<float>& args) {
  parallel_for(args.rows * args.columns, kElements, [&](int64_t begin, int64_t end) {
    HWY_DYNAMIC_DISPATCH(binary_range)(args, begin, end);
  });
}

}  // namespace stillpoint::kernels
#endif  // HWY_ONCE
