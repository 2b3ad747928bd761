// refine on the CPU, forward and backward of one sample at a time. A step's work lies in two blocks
// of rows, one a node, which products read and write in place:
//
//   saved  [a, c, s, r, z, u, n]             7H, see refine_saved; without a backward [a, c, s]
//   D      [da, dc, du, dr, dz, dn]          6H, gradients before the gates: the first 5H those of
//                                            h's products, the last 3H those of s's
//
// so that the way back to h is one product, and that to s.
#include "kernels/refine/refine.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/refine/refine_cpu.cpp"
#include <hwy/foreach_target.h>  // IWYU pragma: keep
#include <hwy/highway.h>

#include <algorithm>

#include "kernels/common/math-inl.h"
#include "kernels/common/parallel.h"
#include "kernels/gemm/tile-inl.h"
#include "kernels/message_sum/message_sum-inl.h"

HWY_BEFORE_NAMESPACE();
namespace stillpoint::kernels::HWY_NAMESPACE {
namespace {

// The columns of the blocks, in units of H.
constexpr int kA = 0, kC = 1, kS = 2, kR = 3, kZ = 4, kU = 5, kN = 6, kSaved = 7, kScratch = 3;
constexpr int kDa = 0, kDc = 1, kDu = 2, kDr = 3, kGradients = 6;
static_assert(kScratch + 2 <= kRefineScratch && kGradients + 1 <= kRefineBackwardScratch);

// Rows of a tile: 9 divides the 81 cells of a board, and 9 rows of three sums each, with what they
// are made of, fill 32 registers.
constexpr int kNodeRows = HWY_TARGET <= HWY_AVX3 ? 9 : kTileRows;

// x [rows, k], its rows `row` apart, times w [k, ...] with rows of `columns`.
TileTerm term(const float* x, int64_t row, const float* w, int64_t columns, int64_t k) {
  return {.a = x, .a_row = row, .a_step = 1, .b = w, .b_row = columns, .k = k};
}

// ---- forward -----------------------------------------------------------------------------------

// Where a step of one sample reads and writes.
struct Step {
  const float *x, *h;
  float* rows;  // of `saved`, or of scratch
  int64_t stride;
  bool keep;  // whether they are of `saved`
  float* out;
};

// s from a and c.
void sum_messages(const CsrView& p, int64_t channels, const Step& step) {
  const V one = hn::Set(D(), kOne);
  for (int64_t i = 0; i < p.rows; ++i) {
    float* row = step.rows + i * step.stride;
    for_blocks<kForwardVectors>(channels, [&](auto io, int64_t k, auto n) {
      sum_row<n>(io, row + kA * channels + k, step.rows + kC * channels + k, step.stride,
                 row_of(p, i), one, row + kS * channels + k);
    });
  }
}

// The weights of the gates' sums lie a vector of channels after the other: for every input the
// vectors of r, z and u (of h) or of r, z and n (of s), padded to whole ones.
//
// Adds the products of rows [i, i + kRows) of `x` with such weights.
template <int kRows>
HWY_INLINE void add_gates(const float* x, int64_t row, const float* w, int64_t channels,
                          V (&r)[kRows], V (&z)[kRows], V (&last)[kRows]) {
  const int64_t n = static_cast<int64_t>(hn::Lanes(D()));
  for (int64_t l = 0; l < channels; ++l, w += 3 * n) {
    const V to_r = hn::LoadU(D(), w), to_z = hn::LoadU(D(), w + n), to = hn::LoadU(D(), w + 2 * n);
    for (int i = 0; i < kRows; ++i) {
      const V value = hn::Set(D(), x[i * row + l]);
      r[i] = hn::MulAdd(value, to_r, r[i]);
      z[i] = hn::MulAdd(value, to_z, z[i]);
      last[i] = hn::MulAdd(value, to, last[i]);
    }
  }
}

// The next state of a vector of channels at k, of rows [i, i + kRows): the three sums that a loop
// adds to stay in registers, and none crosses memory as an array.
template <int kRows, class Io>
HWY_INLINE void gates_tile(Io io, const Step& step, const float* bias, const float* from_h,
                           const float* from_s, int64_t channels, int64_t i, int64_t k) {
  V r[kRows], z[kRows], u[kRows], n[kRows];
  for (int q = 0; q < kRows; ++q) {
    const float* x = step.x + 3 * (i + q) * channels + k;
    r[q] = hn::Add(io.load(x), io.load(bias + k));
    z[q] = hn::Add(io.load(x + channels), io.load(bias + channels + k));
    u[q] = io.load(bias + 2 * channels + k);
    n[q] = io.load(x + 2 * channels);
  }
  add_gates(step.h + i * channels, channels, from_h, channels, r, z, u);
  add_gates(step.rows + i * step.stride + kS * channels, step.stride, from_s, channels, r, z, n);
  for (int q = 0; q < kRows; ++q) {
    const V reset = sigmoid(r[q]), update = sigmoid(z[q]);
    const V candidate = tanh(hn::MulAdd(reset, u[q], n[q]));
    const int64_t at = (i + q) * channels + k;
    const V rest = hn::Sub(hn::Set(D(), 1.f), update);
    io.store(hn::MulAdd(update, io.load(step.h + at), hn::Mul(rest, candidate)), step.out + at);
    if (!step.keep) continue;
    float* row = step.rows + (i + q) * step.stride + k;
    io.store(reset, row + kR * channels);
    io.store(update, row + kZ * channels);
    io.store(u[q], row + kU * channels);
    io.store(candidate, row + kN * channels);
  }
}

template <int kRows, class Io>
HWY_INLINE void gates_panel(Io io, const Step& step, const float* bias, const float* from_h,
                            const float* from_s, int64_t channels, int64_t i, int64_t nodes,
                            int64_t k) {
  for (; i + kRows <= nodes; i += kRows)
    gates_tile<kRows>(io, step, bias, from_h, from_s, channels, i, k);
  if constexpr (kRows > 1)
    gates_panel<fewer_rows(kRows)>(io, step, bias, from_h, from_s, channels, i, nodes, k);
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

// Packs the weights for forward_samples; those of gates a vector of channels at a time, the end of
// the last one filled with zeros.
void pack_weights(const RefineWeights<float>& w, int64_t channels, float* out) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(D())), square = channels * channels;
  transpose(w.receiver, channels, channels, 2 * channels, out);
  transpose(w.sender, channels, channels, 2 * channels, out + channels);
  float* bias = out + 2 * square;
  std::copy_n(w.receiver_bias, channels, bias);
  std::fill_n(bias + channels, channels, 0.f);
  float* gates = bias + 2 * channels;
  for (const float* from : {w.state, w.message}) {
    if (channels % lanes != 0) std::fill_n(gates, refine_gate_weights(channels), 0.f);
    for (int64_t k = 0; k < channels; k += lanes)
      for (int64_t gate = 0; gate < 3; ++gate)
        transpose(from + gate * square + k * channels, std::min(lanes, channels - k), channels,
                  3 * lanes, gates + 3 * channels * k + gate * lanes);
    gates += refine_gate_weights(channels);
  }
}

// All steps of samples [first, last). `packed` are the transposed weights of receiver and sender
// [H, 2H], their biases [2H] and the gates' weights of h and of s.
void forward_samples(const RefineArgs<float>& args, const float* packed, float* scratch,
                     int64_t first, int64_t last) {
  const int64_t nodes = args.size.nodes, channels = args.size.channels, state = nodes * channels;
  const float* pair = packed;
  const float* pair_bias = pair + 2 * channels * channels;
  const float* from_h = pair_bias + 2 * channels;
  const float* from_s = from_h + refine_gate_weights(channels);
  const bool keep = args.saved != nullptr;
  for (int64_t b = first; b < last; ++b) {
    const float* h = args.h + b * state;
    for (int64_t t = 0; t < args.size.steps; ++t) {
      const Step step = {
          .x = args.x + 3 * b * state,
          .h = h,
          .rows = keep ? args.saved + (b * args.size.steps + t) * kSaved * state : scratch,
          .stride = (keep ? kSaved : kScratch) * channels,
          .keep = keep,
          .out = args.states == RefineStates::all ? args.out + (t * args.size.batch + b) * state
                 : t + 1 == args.size.steps       ? args.out + b * state
                                                  : scratch + (kScratch + t % 2) * state};
      tile_product<kNodeRows>(nodes, 2 * channels, FromRow{pair_bias},
                              TileStore{step.rows, step.stride},
                              term(h, channels, pair, 2 * channels, channels));
      sum_messages(args.pattern, channels, step);
      for_vectors(channels, [&](auto io, int64_t k) {
        gates_panel<kNodeRows>(io, step, args.weights.state_bias, from_h + 3 * channels * k,
                               from_s + 3 * channels * k, channels, 0, nodes, k);
      });
      h = step.out;
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
      io.store(hn::Mul(dn, r), d + kDu * channels + k);
      const V to_x[] = {dr, dz, dn};
      for (int gate = 0; gate < 3; ++gate) {
        io.store(to_x[gate], d + (kDr + gate) * channels + k);
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
  // out [columns, H] += d^T x for the columns of d from `first` on.
  const auto add = [&](int first, int64_t columns, const float* x, int64_t row, float* out) {
    tile_product(columns, channels, TileLoad{out, channels}, TileStore{out, channels},
                 TileTerm{.a = gradients + first * channels,
                          .a_row = 1,
                          .a_step = stride,
                          .b = x,
                          .b_row = row,
                          .k = nodes});
  };
  add(kDa, 2 * channels, h, channels, sum);
  add(kDr, 2 * channels, h, channels, sum + 2 * square);
  add(kDu, channels, h, channels, sum + 4 * square);
  add(kDr, 3 * channels, saved + kS * channels, kSaved * channels, sum + 5 * square);
  float* bias = sum + 8 * square;
  add_columns(gradients + kDa * channels, nodes, stride, channels, bias);
  add_columns(gradients + kDr * channels, nodes, stride, 2 * channels, bias + channels);
  add_columns(gradients + kDu * channels, nodes, stride, channels, bias + 3 * channels);
}

// Samples [first, last). `through_h` are the weights [5H, H] of receiver, sender and state in
// the order of D; the weight gradients are added to `sum`, unless it is null.
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
      tile_product<kNodeRows>(
          nodes, channels, FromZero{}, TileStore{ds, channels},
          term(gradients + kDr * channels, stride, args.weights.message, channels, 3 * channels));
      messages_backward(args.pattern, args.transposed, symmetric, saved, ds, channels, gradients);
      tile_product<kNodeRows>(nodes, channels, TileLoad{dh, channels}, TileStore{dh, channels},
                              term(gradients, stride, through_h, channels, 5 * channels));
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

HWY_EXPORT(pack_weights);
HWY_EXPORT(forward_samples);
HWY_EXPORT(backward_samples);
HWY_EXPORT(add_parts);

}  // namespace

void cpu::refine(const RefineArgs<float>& args) {
  const RefineWeights<float>& w = args.weights;
  const int64_t channels = args.size.channels, state = args.size.nodes * channels;
  if (args.size.batch * state == 0) return;
  HWY_DYNAMIC_DISPATCH(pack_weights)(w, channels, args.workspace);
  float* scratches = args.workspace + refine_packed_weights(channels);
  const int64_t grain = refine_grain(args.size);
  parallel_for(args.size.batch, grain, [&](int64_t first, int64_t last) {
    HWY_DYNAMIC_DISPATCH(forward_samples)
    (args, args.workspace, scratches + first / grain * kRefineScratch * state, first, last);
  });
}

void cpu::refine_backward(const RefineBackwardArgs<float>& args) {
  const RefineWeights<float>& w = args.weights;
  const int64_t channels = args.size.channels, square = channels * channels;
  const int64_t state = args.size.nodes * channels, parameters = refine_parameters(channels);
  if (channels == 0) return;
  float* through_h = args.workspace;
  std::copy_n(w.receiver, square, through_h);  // in the order of D
  std::copy_n(w.sender, square, through_h + square);
  std::copy_n(w.state + 2 * square, square, through_h + 2 * square);
  std::copy_n(w.state, 2 * square, through_h + 3 * square);
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
      (args, through_h, symmetric, scratches + chunk * kRefineBackwardScratch * state, sum, first,
       last);
    });
  if (args.dweights == nullptr) return;
  parallel_for(parameters, 16384, [&](int64_t first, int64_t last) {
    HWY_DYNAMIC_DISPATCH(add_parts)(sums, chunks, parameters, args.dweights, first, last);
  });
}

}  // namespace stillpoint::kernels
#endif  // HWY_ONCE
