// Elementwise functions on CUDA: four elements a thread and step where the pointers allow.
#include <algorithm>

#include "kernels/common/index.cuh"
#include "kernels/common/launch.h"
#include "kernels/elementwise/elementwise.h"

namespace stillpoint::kernels::cuda {
namespace {

constexpr int kThreads = 256;

bool takes_float4(const void* p) { return reinterpret_cast<uintptr_t>(p) % sizeof(float4) == 0; }

// The first `fours` groups of four as float4, what is left one by one.
template <class F>
__global__ void __launch_bounds__(kThreads)
    unary_kernel(const float* x, float* out, int64_t n, int64_t fours, float p, float q) {
  for (int64_t i = global_thread(); i < fours; i += grid_threads()) {
    const float4 v = reinterpret_cast<const float4*>(x)[i];
    reinterpret_cast<float4*>(out)[i] =
        make_float4(F::of(v.x, p, q), F::of(v.y, p, q), F::of(v.z, p, q), F::of(v.w, p, q));
  }
  for (int64_t i = 4 * fours + global_thread(); i < n; i += grid_threads())
    out[i] = F::of(x[i], p, q);
}

template <class F>
__global__ void __launch_bounds__(kThreads)
    binary_kernel(const float* a, const float* b, float* out, int64_t n, int64_t fours) {
  for (int64_t i = global_thread(); i < fours; i += grid_threads()) {
    const float4 u = reinterpret_cast<const float4*>(a)[i];
    const float4 v = reinterpret_cast<const float4*>(b)[i];
    reinterpret_cast<float4*>(out)[i] =
        make_float4(F::of(u.x, v.x), F::of(u.y, v.y), F::of(u.z, v.z), F::of(u.w, v.w));
  }
  for (int64_t i = 4 * fours + global_thread(); i < n; i += grid_threads())
    out[i] = F::of(a[i], b[i]);
}

// One operand is spread.
template <class F, class Index>
__global__ void __launch_bounds__(kThreads)
    spread_kernel(const float* a, const float* b, float* out, int64_t n, Index columns,
                  Spread a_spread, Spread b_spread) {
  for (int64_t i = global_thread(); i < n; i += grid_threads()) {
    const Index row = static_cast<Index>(i) / columns;
    const Index column = static_cast<Index>(i) - row * columns;
    out[i] =
        F::of(a[spread_index(a_spread, i, row, column)], b[spread_index(b_spread, i, row, column)]);
  }
}

template <class F>
Status launch_unary(const UnaryArgs<float>& args, Stream stream) {
  const int64_t fours = takes_float4(args.x) && takes_float4(args.out) ? args.n / 4 : 0;
  return launch(unary_kernel<F>, blocks_for(std::max(fours, args.n - 4 * fours), kThreads),
                kThreads, 0, stream, args.x, args.out, args.n, fours, args.p, args.q);
}

template <class F>
Status launch_binary(const BinaryArgs<float>& args, Stream stream) {
  const int64_t n = args.rows * args.columns;
  if (args.a_spread == Spread::full && args.b_spread == Spread::full) {
    const bool aligned = takes_float4(args.a) && takes_float4(args.b) && takes_float4(args.out);
    const int64_t fours = aligned ? n / 4 : 0;
    return launch(binary_kernel<F>, blocks_for(std::max(fours, n - 4 * fours), kThreads), kThreads,
                  0, stream, args.a, args.b, args.out, n, fours);
  }
  return with_index(n, [&]<class Index>() {
    return launch(spread_kernel<F, Index>, blocks_for(n, kThreads), kThreads, 0, stream, args.a,
                  args.b, args.out, n, static_cast<Index>(args.columns), args.a_spread,
                  args.b_spread);
  });
}

__global__ void __launch_bounds__(kThreads) fill_kernel(uint32_t* out, uint32_t value, int64_t n) {
  for (int64_t i = global_thread(); i < n; i += grid_threads()) out[i] = value;
}

}  // namespace

Status fill(uint32_t* out, uint32_t value, int64_t n, Stream stream) {
  if (n == 0) return {};
  return launch(fill_kernel, blocks_for(n, kThreads), kThreads, 0, stream, out, value, n);
}

Status unary(const UnaryArgs<float>& args, Stream stream) {
  if (args.n == 0) return {};
#define STILLPOINT_CASE(name, expression) \
  case UnaryFunction::name:               \
    return launch_unary<scalar::unary::name>(args, stream);
  switch (args.function) { STILLPOINT_UNARY_FUNCTIONS(STILLPOINT_CASE) }
#undef STILLPOINT_CASE
  return {};
}

Status binary(const BinaryArgs<float>& args, Stream stream) {
  if (args.rows * args.columns == 0) return {};
#define STILLPOINT_CASE(name, expression) \
  case BinaryFunction::name:              \
    return launch_binary<scalar::binary::name>(args, stream);
  switch (args.function) { STILLPOINT_BINARY_FUNCTIONS(STILLPOINT_CASE) }
#undef STILLPOINT_CASE
  return {};
}

}  // namespace stillpoint::kernels::cuda
