// adamw on the CPU: one pass over memory, a chunk at a time.
#include "kernels/adamw/adamw.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/adamw/adamw_cpu.cpp"
#include <hwy/foreach_target.h>  // IWYU pragma: keep
#include <hwy/highway.h>

#include <algorithm>
#include <cmath>

#include "kernels/common/math-inl.h"
#include "kernels/common/parallel.h"

HWY_BEFORE_NAMESPACE();
namespace stillpoint::kernels::cpu::HWY_NAMESPACE {
namespace {

using namespace kernels::HWY_NAMESPACE;  // vectors and their functions

// Where a chunk starts in its tensor, and how many elements it has.
struct Part {
  int64_t begin, n;

  Part(const AdamwTensor<float>& t, int64_t chunk)
      : begin((chunk - t.first_chunk) * kAdamwChunk), n(std::min(kAdamwChunk, t.n - begin)) {}
};

HWY_INLINE V approach(V old, float rate, V fresh) {
  return hn::MulAdd(hn::Set(D(), rate), hn::Sub(fresh, old), old);
}

void step_chunk(const AdamwArgs<float>& args, int64_t chunk) {
  const D d;
  const AdamwTensor<float>& t = tensor_of_chunk(args.tensors, args.count, chunk);
  const Part part(t, chunk);
  const V scale = hn::Set(d, args.gradient_scale == nullptr ? 1.f : *args.gradient_scale);
  for_vectors(part.n, [&](auto io, int64_t offset) {
    const int64_t k = part.begin + offset;
    const V g = hn::Mul(scale, io.load(t.gradient + k));
    const V m = approach(io.load(t.first + k), args.first_rate, g);
    const V v = approach(io.load(t.second + k), args.second_rate, hn::Mul(g, g));
    io.store(m, t.first + k);
    io.store(v, t.second + k);
    const V root = hn::Sqrt(hn::Mul(hn::Set(d, args.correction2), v));
    const V step =
        hn::Div(hn::Mul(hn::Set(d, args.correction1), m), hn::Add(root, hn::Set(d, args.epsilon)));
    const V p = io.load(t.parameter + k);
    const V decayed = hn::MulAdd(hn::Set(d, t.weight_decay), p, step);
    const V moved = hn::NegMulAdd(hn::Set(d, args.learning_rate), decayed, p);
    io.store(moved, t.parameter + k);
    if (t.average != nullptr)
      io.store(approach(io.load(t.average + k), args.average_rate, moved), t.average + k);
  });
}

void norm_chunk(const GradientNormArgs<float>& args, int64_t chunk) {
  const AdamwTensor<float>& t = tensor_of_chunk(args.tensors, args.count, chunk);
  const Part part(t, chunk);
  V squares = hn::Zero(D());
  for_vectors(part.n, [&](auto io, int64_t offset) {
    const V g = io.load(t.gradient + part.begin + offset);
    squares = hn::MulAdd(g, g, squares);
  });
  args.workspace[chunk] = sum_lanes(squares);
}

}  // namespace
}  // namespace stillpoint::kernels::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace stillpoint::kernels::cpu {
namespace {

HWY_EXPORT(step_chunk);
HWY_EXPORT(norm_chunk);

constexpr int64_t kGrain = 16;  // chunks that a thread takes at a time: about 10 us

}  // namespace

void adamw(const AdamwArgs<float>& args) {
  parallel_for(args.chunks, kGrain, [&](int64_t first, int64_t last) {
    for (int64_t chunk = first; chunk < last; ++chunk)
      HWY_DYNAMIC_DISPATCH(step_chunk)(args, chunk);
  });
}

void gradient_norm(const GradientNormArgs<float>& args) {
  parallel_for(args.chunks, kGrain, [&](int64_t first, int64_t last) {
    for (int64_t chunk = first; chunk < last; ++chunk)
      HWY_DYNAMIC_DISPATCH(norm_chunk)(args, chunk);
  });
  float squares = 0;
  for (int64_t chunk = 0; chunk < args.chunks; ++chunk) squares += args.workspace[chunk];
  const float norm = std::sqrt(squares);
  args.out[0] = norm;
  args.out[1] = norm <= args.max_norm ? 1.f : args.max_norm / norm;
}

}  // namespace stillpoint::kernels::cpu
#endif  // HWY_ONCE
