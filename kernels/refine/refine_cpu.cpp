// refine on the CPU, forward and backward of one sample at a time. A step's work lies in two blocks
// of rows, one a node, which products read and write in place:
//
//   saved  [a, c, r, z, u, n, s]             7H, see refine_saved
//   D      [da, dc, dr, dz, du, dr, dz, dn]  8H, gradients before the gates: the first 5H those of
//                                            h's products, the last 3H those of s's
//
// so that all products with h are one, and all weight gradients two.
#include "kernels/refine/refine.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/refine/refine_cpu.cpp"
#include <hwy/foreach_target.h>  // IWYU pragma: keep
#include <hwy/highway.h>

#include <algorithm>

#include "kernels/common/math-inl.h"
#include "kernels/common/parallel.h"
#include "kernels/gemm/product.h"
#include "kernels/message_sum/message_sum-inl.h"

HWY_BEFORE_NAMESPACE();
namespace stillpoint::kernels::HWY_NAMESPACE {
namespace {

// The columns of the blocks, in units of H.
constexpr int kA = 0, kC = 1, kR = 2, kZ = 3, kU = 4, kN = 5, kS = 6, kSaved = 7;
constexpr int kDa = 0, kDc = 1, kDr = 2, kDz = 3, kDu = 4, kDxGates = 5, kGradients = 8;

// A matrix whose rows start `stride` elements apart.
struct Matrix {
  const float* first;
  int64_t stride;
};
enum class Write : uint8_t { over, add };

// out [m, n] = (or +=) a [m, k] b [k, n].
void multiply(Matrix a, Matrix b, int64_t m, int64_t n, int64_t k, Write write, float* out,
              int64_t stride) {
  cpu::product({.a = a.first,
                .b = b.first,
                .out = out,
                .m = m,
                .n = n,
                .k = k,
                .lda = a.stride,
                .ldb = b.stride,
                .ldo = stride,
                .transpose_a = false,
                .transpose_b = false,
                .add = write == Write::add});
}

// ---- forward -----------------------------------------------------------------------------------

// s from a and c, after a has got its bias.
void sum_messages(const CsrView& p, const float* bias, int64_t channels, float* saved) {
  const int64_t stride = kSaved * channels;
  for (int64_t i = 0; i < p.rows; ++i) {
    float* a = saved + i * stride + kA * channels;
    for_vectors(channels, [&](auto io, int64_t k) {
      io.store(hn::Add(io.load(a + k), io.load(bias + k)), a + k);
    });
  }
  const V one = hn::Set(D(), kOne);
  for (int64_t i = 0; i < p.rows; ++i) {
    float* row = saved + i * stride;
    for_blocks<kForwardVectors>(channels, [&](auto io, int64_t k, auto n) {
      sum_row<n>(io, row + kA * channels + k, saved + kC * channels + k, stride, row_of(p, i), one,
                 row + kS * channels + k);
    });
  }
}

// The gates, in place of h's products, and the next state; `out` may be `h`.
void apply_gates(const float* x, const float* from_s, const float* bias, const float* h,
                 int64_t nodes, int64_t channels, float* saved, float* out) {
  const V one = hn::Set(D(), 1.f);
  for (int64_t i = 0; i < nodes; ++i) {
    float* row = saved + i * kSaved * channels;
    const float* x_row = x + 3 * i * channels;
    const float* s_row = from_s + 3 * i * channels;
    for_vectors(channels, [&](auto io, int64_t k) {
      const auto from_x = [&](int gate) {
        const int64_t at = gate * channels + k;
        return hn::Add(io.load(x_row + at), io.load(s_row + at));
      };
      const auto from_h = [&](int gate) {
        return hn::Add(io.load(row + (kR + gate) * channels + k),
                       io.load(bias + gate * channels + k));
      };
      const V r = sigmoid(hn::Add(from_x(0), from_h(0)));
      const V z = sigmoid(hn::Add(from_x(1), from_h(1)));
      const V u = from_h(2);
      const V n = tanh(hn::MulAdd(r, u, from_x(2)));
      io.store(r, row + kR * channels + k);
      io.store(z, row + kZ * channels + k);
      io.store(u, row + kU * channels + k);
      io.store(n, row + kN * channels + k);
      const int64_t at = i * channels + k;
      io.store(hn::MulAdd(z, io.load(h + at), hn::Mul(hn::Sub(one, z), n)), out + at);
    });
  }
}

// out [H, rows] with `stride` columns = w [rows, H] transposed, four rows at a time.
void transpose(const float* w, int64_t rows, int64_t channels, int64_t stride, float* out) {
  const D d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  HWY_ALIGN float four[4 * HWY_MAX_BYTES / sizeof(float)];
  int64_t i = 0;
  for (; i + 4 <= rows; i += 4) {
    const float* row = w + i * channels;
    int64_t k = 0;
    for (; k + lanes <= channels; k += lanes) {
      const auto load = [&](int64_t r) { return hn::LoadU(d, row + r * channels + k); };
      hn::StoreInterleaved4(load(0), load(1), load(2), load(3), d, four);
      for (int64_t j = 0; j < lanes; ++j) std::copy_n(four + 4 * j, 4, out + (k + j) * stride + i);
    }
    for (; k < channels; ++k)
      for (int64_t r = 0; r < 4; ++r) out[k * stride + i + r] = row[r * channels + k];
  }
  for (; i < rows; ++i)
    for (int64_t k = 0; k < channels; ++k) out[k * stride + i] = w[i * channels + k];
}

// All steps of samples [first, last). `packed` are the transposed weights: [H, 5H] of receiver,
// sender and state, [H, 3H] of message.
void forward_samples(const RefineArgs<float>& args, const float* packed, float* scratch,
                     int64_t first, int64_t last) {
  const int64_t nodes = args.size.nodes, channels = args.size.channels, state = nodes * channels;
  const float* message = packed + 5 * channels * channels;
  float* from_s = scratch;
  for (int64_t b = first; b < last; ++b) {
    const float* h = args.h + b * state;
    for (int64_t t = 0; t < args.size.steps; ++t) {
      float* saved = args.saved == nullptr
                         ? scratch + 3 * state
                         : args.saved + (b * args.size.steps + t) * kSaved * state;
      float* out =
          args.out + (args.states == RefineStates::all ? t * args.size.batch + b : b) * state;
      multiply({h, channels}, {packed, 5 * channels}, nodes, 5 * channels, channels, Write::over,
               saved, kSaved * channels);
      sum_messages(args.pattern, args.weights.receiver_bias, channels, saved);
      multiply({saved + kS * channels, kSaved * channels}, {message, 3 * channels}, nodes,
               3 * channels, channels, Write::over, from_s, 3 * channels);
      apply_gates(args.x + 3 * b * state, from_s, args.weights.state_bias, h, nodes, channels,
                  saved, out);
      h = out;
    }
  }
}

// ---- backward ----------------------------------------------------------------------------------

// From dh, the gradient of the step's result, to those before the gates and to the part of h's that
// comes through z; adds up the gradient of x, if it is wanted.
void gates_backward(const float* saved, const float* h, const float* g, int64_t nodes,
                    int64_t channels, float* gradients, float* dh, float* dx) {
  const V one = hn::Set(D(), 1.f);
  for (int64_t i = 0; i < nodes; ++i) {
    const float* row = saved + i * kSaved * channels;
    float* d = gradients + i * kGradients * channels;
    float* dx_row = dx == nullptr ? nullptr : dx + 3 * i * channels;
    for_vectors(channels, [&](auto io, int64_t k) {
      const auto kept = [&](int column) { return io.load(row + column * channels + k); };
      const V r = kept(kR), z = kept(kZ), n = kept(kN);
      const int64_t at = i * channels + k;
      const V gradient = hn::Add(io.load(dh + at), io.load(g + at));
      const V rest = hn::Sub(one, z);
      const V dn = hn::Mul(hn::Mul(gradient, rest), hn::NegMulAdd(n, n, one));
      const V dr = hn::Mul(hn::Mul(dn, kept(kU)), hn::Mul(r, hn::Sub(one, r)));
      const V dz = hn::Mul(hn::Mul(gradient, hn::Sub(io.load(h + at), n)), hn::Mul(z, rest));
      io.store(dr, d + kDr * channels + k);
      io.store(dz, d + kDz * channels + k);
      io.store(hn::Mul(dn, r), d + kDu * channels + k);
      const V to_x[] = {dr, dz, dn};
      for (int gate = 0; gate < 3; ++gate) {
        io.store(to_x[gate], d + (kDxGates + gate) * channels + k);
        if (dx_row == nullptr) continue;
        float* sum = dx_row + gate * channels + k;
        io.store(hn::Add(io.load(sum), to_x[gate]), sum);
      }
      io.store(hn::Mul(gradient, z), dh + at);
    });
  }
}

// da and dc from ds.
void messages_backward(const CsrView& p, const CsrView& t, bool symmetric, const float* saved,
                       const float* ds, int64_t channels, float* gradients) {
  const int64_t stride = kSaved * channels;
  for_blocks<kBackwardVectors>(channels, [&](auto io, int64_t k, auto n) {
    const float* a = saved + kA * channels + k;
    const float* c = saved + kC * channels + k;
    for (int64_t i = 0; i < p.rows; ++i) {
      float* da = gradients + (i * kGradients + kDa) * channels + k;
      float* dc = gradients + (i * kGradients + kDc) * channels + k;
      if (symmetric) {
        count_and_pull_row<n>(io, a, c, ds + k, stride, channels, i, row_of(p, i), da, dc);
      } else {
        count_row<n>(io, a + i * stride, c, ds + i * channels + k, stride, row_of(p, i), da);
        pull_row<n>(io, a, c + i * stride, ds + k, stride, channels, row_of(t, i), dc);
      }
    }
  });
}

// sum [columns] += the columns of the first of `rows` rows of a block.
void add_columns(const float* rows_of_block, int64_t rows, int64_t stride, int64_t columns,
                 float* sum) {
  for_blocks<4>(columns, [&](auto io, int64_t k, auto n) {
    const int64_t lanes = static_cast<int64_t>(hn::Lanes(D()));
    V total[n];
    each<n>([&](auto v) { total[v] = io.load(sum + k + v * lanes); });
    for (int64_t i = 0; i < rows; ++i) {
      const float* row = rows_of_block + i * stride + k;
      each<n>([&](auto v) { total[v] = hn::Add(total[v], io.load(row + v * lanes)); });
    }
    each<n>([&](auto v) { io.store(total[v], sum + k + v * lanes); });
  });
}

// Adds the weight gradients of one step to `sum`, laid out as `dweights`.
void add_weight_gradients(const float* gradients, const float* h, const float* saved, int64_t nodes,
                          int64_t channels, float* sum) {
  const int64_t square = channels * channels, stride = kGradients * channels;
  // out [columns, H] += d^T input
  const auto add = [&](const float* d, int64_t columns, Matrix input, float* out) {
    cpu::product({.a = d,
                  .b = input.first,
                  .out = out,
                  .m = columns,
                  .n = channels,
                  .k = nodes,
                  .lda = stride,
                  .ldb = input.stride,
                  .ldo = channels,
                  .transpose_a = true,
                  .transpose_b = false,
                  .add = true});
  };
  add(gradients, 5 * channels, {h, channels}, sum);
  add(gradients + kDxGates * channels, 3 * channels, {saved + kS * channels, kSaved * channels},
      sum + 5 * square);
  float* bias = sum + 8 * square;
  add_columns(gradients + kDa * channels, nodes, stride, channels, bias);
  add_columns(gradients + kDr * channels, nodes, stride, 3 * channels, bias + channels);
}

// Samples [first, last). `through_h` are the weights [5H, H] of receiver, sender and state; the
// weight gradients are added to `sum`, unless it is null.
void backward_samples(const RefineBackwardArgs<float>& args, const float* through_h, bool symmetric,
                      float* scratch, float* sum, int64_t first, int64_t last) {
  const auto [steps, batch, nodes, channels, most_chunks] = args.size;
  const int64_t state = nodes * channels, stride = kGradients * channels;
  float* gradients = scratch;
  float* ds = gradients + kGradients * state;
  for (int64_t b = first; b < last; ++b) {
    float* dh = args.dh + b * state;
    float* dx = args.dx == nullptr ? nullptr : args.dx + 3 * b * state;
    std::fill_n(dh, state, 0.f);
    if (dx != nullptr) std::fill_n(dx, 3 * state, 0.f);
    for (int64_t t = steps - 1; t >= 0; --t) {
      const float* h = t == 0 ? args.h + b * state : args.out + ((t - 1) * batch + b) * state;
      const float* saved = args.saved + (b * steps + t) * kSaved * state;
      gates_backward(saved, h, args.g + (t * batch + b) * state, nodes, channels, gradients, dh,
                     dx);
      multiply({gradients + kDxGates * channels, stride}, {args.weights.message, channels}, nodes,
               channels, 3 * channels, Write::over, ds, channels);
      messages_backward(args.pattern, args.transposed, symmetric, saved, ds, channels, gradients);
      multiply({gradients, stride}, {through_h, channels}, nodes, channels, 5 * channels,
               Write::add, dh, channels);
      if (sum != nullptr) add_weight_gradients(gradients, h, saved, nodes, channels, sum);
    }
  }
}

// out = the sum of `parts` arrays of `n` elements, elements [first, last).
void add_parts(const float* from, int64_t parts, int64_t n, float* out, int64_t first,
               int64_t last) {
  for_vectors(last - first, [&](auto io, int64_t k) {
    V sum = hn::Zero(D());
    for (int64_t part = 0; part < parts; ++part)
      sum = hn::Add(sum, io.load(from + part * n + first + k));
    io.store(sum, out + first + k);
  });
}

}  // namespace
}  // namespace stillpoint::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace stillpoint::kernels {
namespace {

HWY_EXPORT(transpose);
HWY_EXPORT(forward_samples);
HWY_EXPORT(backward_samples);
HWY_EXPORT(add_parts);

}  // namespace

void cpu::refine(const RefineArgs<float>& args) {
  const RefineWeights<float>& w = args.weights;
  const int64_t channels = args.size.channels, state = args.size.nodes * channels;
  if (args.size.batch * state == 0) return;
  float* packed = args.workspace;
  const auto transpose = HWY_DYNAMIC_DISPATCH(transpose);
  transpose(w.receiver, channels, channels, 5 * channels, packed);
  transpose(w.sender, channels, channels, 5 * channels, packed + channels);
  transpose(w.state, 3 * channels, channels, 5 * channels, packed + 2 * channels);
  transpose(w.message, 3 * channels, channels, 3 * channels, packed + 5 * channels * channels);
  const int64_t grain = refine_grain(args.size);
  parallel_for(args.size.batch, grain, [&](int64_t first, int64_t last) {
    float* scratch = args.workspace + 8 * channels * channels + first / grain * 10 * state;
    HWY_DYNAMIC_DISPATCH(forward_samples)(args, packed, scratch, first, last);
  });
}

void cpu::refine_backward(const RefineBackwardArgs<float>& args) {
  const RefineWeights<float>& w = args.weights;
  const int64_t channels = args.size.channels, square = channels * channels;
  const int64_t state = args.size.nodes * channels, parameters = refine_parameters(channels);
  if (channels == 0) return;
  float* through_h = args.workspace;
  std::copy_n(w.receiver, square, through_h);
  std::copy_n(w.sender, square, through_h + square);
  std::copy_n(w.state, 3 * square, through_h + 2 * square);
  const bool symmetric = same_pattern(args.pattern, args.transposed);
  const int64_t chunks = state == 0 ? 0 : refine_chunks(args.size), grain = refine_grain(args.size);
  float* sums = through_h + 5 * square;
  float* scratches = sums + chunks * parameters;
  if (state != 0)
    parallel_for(args.size.batch, grain, [&](int64_t first, int64_t last) {
      const int64_t chunk = first / grain;
      float* sum = args.dweights == nullptr ? nullptr : sums + chunk * parameters;
      if (sum != nullptr) std::fill_n(sum, parameters, 0.f);
      HWY_DYNAMIC_DISPATCH(backward_samples)
      (args, through_h, symmetric, scratches + chunk * 9 * state, sum, first, last);
    });
  if (args.dweights == nullptr) return;
  parallel_for(parameters, 16384, [&](int64_t first, int64_t last) {
    HWY_DYNAMIC_DISPATCH(add_parts)(sums, chunks, parameters, args.dweights, first, last);
  });
}

}  // namespace stillpoint::kernels
#endif  // HWY_ONCE
