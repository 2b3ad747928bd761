// gru_cell on the CPU: one pass over memory, gates in registers.
#include "kernels/gru_cell/gru_cell.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/gru_cell/gru_cell_cpu.cpp"
#include <hwy/foreach_target.h>  // IWYU pragma: keep
#include <hwy/highway.h>

#include <algorithm>

#include "kernels/common/math-inl.h"
#include "kernels/common/parallel.h"

HWY_BEFORE_NAMESPACE();
namespace stillpoint::kernels::cpu::HWY_NAMESPACE {
namespace {

using namespace kernels::HWY_NAMESPACE;  // vectors and their functions

struct Gates {
  V r, z, n, hn;
};

// The gates of one vector of channels; x and h point at the row's reset pre-activations.
template <class Io>
HWY_INLINE Gates gates_of(Io io, const float* x, const float* h, int64_t channels) {
  const V r = sigmoid(hn::Add(io.load(x), io.load(h)));
  const V z = sigmoid(hn::Add(io.load(x + channels), io.load(h + channels)));
  const V candidate = io.load(h + 2 * channels);
  const V n = tanh(hn::MulAdd(r, candidate, io.load(x + 2 * channels)));
  return {r, z, n, candidate};
}

void forward_rows(const GruCellArgs<float>& args, int64_t first, int64_t last) {
  const int64_t channels = args.channels;
  for (int64_t row = first; row < last; ++row) {
    const float* x = args.x_gates + 3 * row * channels;
    const float* h_gates = args.h_gates + 3 * row * channels;
    const float* h = args.h + row * channels;
    float* out = args.out + row * channels;
    for_vectors(channels, [&](auto io, int64_t k) {
      const Gates a = gates_of(io, x + k, h_gates + k, channels);
      const V rest = hn::Sub(hn::Set(D(), 1.f), a.z);
      io.store(hn::MulAdd(a.z, io.load(h + k), hn::Mul(rest, a.n)), out + k);
    });
  }
}

void backward_rows(const GruCellBackwardArgs<float>& args, int64_t first, int64_t last) {
  const int64_t channels = args.channels;
  const V one = hn::Set(D(), 1.f);
  for (int64_t row = first; row < last; ++row) {
    const int64_t gates = 3 * row * channels, state = row * channels;
    for_vectors(channels, [&](auto io, int64_t k) {
      const Gates a = gates_of(io, args.x_gates + gates + k, args.h_gates + gates + k, channels);
      const V g = io.load(args.g + state + k);
      const V rest = hn::Sub(one, a.z);
      const V an = hn::Mul(hn::Mul(g, rest), hn::NegMulAdd(a.n, a.n, one));
      const V ar = hn::Mul(hn::Mul(an, a.hn), hn::Mul(a.r, hn::Sub(one, a.r)));
      const V az =
          hn::Mul(hn::Mul(g, hn::Sub(io.load(args.h + state + k), a.n)), hn::Mul(a.z, rest));
      float* dx = args.dx_gates + gates + k;
      float* dh = args.dh_gates + gates + k;
      io.store(ar, dx);
      io.store(ar, dh);
      io.store(az, dx + channels);
      io.store(az, dh + channels);
      io.store(an, dx + 2 * channels);
      io.store(hn::Mul(an, a.r), dh + 2 * channels);
      io.store(hn::Mul(g, a.z), args.dh + state + k);
    });
  }
}

}  // namespace
}  // namespace stillpoint::kernels::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace stillpoint::kernels::cpu {
namespace {

HWY_EXPORT(forward_rows);
HWY_EXPORT(backward_rows);

// Rows a chunk: 16384 elements, about 30 us.
int64_t grain(int64_t channels) { return std::max<int64_t>(1, 16384 / channels); }

}  // namespace

void gru_cell(const GruCellArgs<float>& args) {
  if (args.channels == 0) return;
  parallel_for(args.rows, grain(args.channels), [&](int64_t first, int64_t last) {
    HWY_DYNAMIC_DISPATCH(forward_rows)(args, first, last);
  });
}

void gru_cell_backward(const GruCellBackwardArgs<float>& args) {
  if (args.channels == 0) return;
  parallel_for(args.rows, grain(args.channels), [&](int64_t first, int64_t last) {
    HWY_DYNAMIC_DISPATCH(backward_rows)(args, first, last);
  });
}

}  // namespace stillpoint::kernels::cpu
#endif  // HWY_ONCE
