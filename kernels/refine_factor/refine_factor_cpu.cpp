// refine_factor on the CPU: board by board, products in tiles whose sums are finished (bias, relu,
// gathered factors, mask) before they leave the registers.
#include "kernels/refine_factor/refine_factor.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/refine_factor/refine_factor_cpu.cpp"
#include <hwy/foreach_target.h>  // IWYU pragma: keep
#include <hwy/highway.h>

#include <algorithm>
#include <cmath>

#include "kernels/common/parallel.h"
#include "kernels/factor_sum/factor_sum-inl.h"
#include "kernels/gemm/tile-inl.h"

// What the code of every instruction set shares.
#ifndef STILLPOINT_REFINE_FACTOR_CPU
#define STILLPOINT_REFINE_FACTOR_CPU
namespace stillpoint::kernels::cpu {

// Rows of variables that go through all products of a phase while they are in the first-level
// cache: 64 rows of 2 C are 16 KB at C = 32.
constexpr int64_t kBlock = 64;

// Every weight transposed, [in, out], the form in which the forward reads them as vectors.
struct PackedWeights {
  float *message, *factor, *collect, *own, *update;

  PackedWeights(float* at, const RefineFactorSizes& z)
      : message(at),
        factor(message + z.channels * z.channels),
        collect(factor + z.types.count * z.channels * z.channels),
        own(collect + z.types.count * z.channels * z.hidden),
        update(own + 2 * z.channels * z.hidden) {}
  static int64_t size(const RefineFactorSizes& z) {
    const int64_t c = z.channels;
    return c * c + z.types.count * c * (c + z.hidden) + 3 * c * z.hidden;
  }
};

// Scratch memory of one thread.
struct Scratch {
  float *m, *s, *p, *at_factors, *block;  // both directions
  float *even, *odd;                      // forward: states that nobody keeps
  float *dh, *du, *ds;                    // backward

  Scratch(float* at, const RefineFactorSizes& z)
      : m(at),
        s(m + z.nodes * z.channels),
        p(s + z.factors() * z.channels),
        at_factors(p + z.factors() * z.channels),
        block(at_factors + z.factors() * z.hidden),
        even(block + kBlock * std::max(z.hidden, z.channels)),
        odd(even + z.nodes * z.channels),
        dh(even),
        du(dh + z.nodes * z.channels),
        ds(du + z.nodes * z.hidden) {}
  static int64_t size(const RefineFactorSizes& z) {
    return 3 * z.nodes * z.channels + z.nodes * z.hidden + 3 * z.factors() * z.channels +
           z.factors() * z.hidden + kBlock * std::max(z.hidden, z.channels);
  }
};

}  // namespace stillpoint::kernels::cpu
#endif  // STILLPOINT_REFINE_FACTOR_CPU

HWY_BEFORE_NAMESPACE();
namespace stillpoint::kernels::cpu::HWY_NAMESPACE {
namespace {

using namespace kernels::HWY_NAMESPACE;  // vectors, tiles

HWY_INLINE V relu(V v) { return hn::IfThenZeroElse(hn::Lt(v, hn::Zero(D())), v); }  // keeps NaN

// Starts a sum at its bias.
struct FromBias {
  const float* bias;
  template <class Io>
  HWY_INLINE V operator()(Io io, int64_t, int64_t j) const {
    return io.load(bias + j);
  }
};
struct StoreRelu {
  float* data;
  int64_t row;
  template <class Io>
  HWY_INLINE void operator()(Io io, V v, int64_t i, int64_t j) const {
    io.store(relu(v), data + i * row + j);
  }
};
// Stores a gradient where relu let its value y through.
struct StoreMasked {
  float* data;
  const float* y;
  int64_t row;
  template <class Io>
  HWY_INLINE void operator()(Io io, V v, int64_t i, int64_t j) const {
    const int64_t at = i * row + j;
    io.store(hn::IfThenElseZero(hn::Gt(io.load(y + at), hn::Zero(D())), v), data + at);
  }
};

HWY_INLINE TileTerm term(const float* a, int64_t a_row, const float* b, int64_t b_row, int64_t k) {
  return {.a = a, .a_row = a_row, .a_step = 1, .b = b, .b_row = b_row, .k = k};
}

// dw [out, in] += dy^T x over some rows; rows of dw start `row` apart.
HWY_INLINE void add_weight_gradient(float* dw, int64_t row, const float* dy, int64_t out,
                                    const float* x, int64_t in, int64_t rows) {
  tile_product(out, in, TileLoad{dw, row}, TileStore{dw, row},
               TileTerm{.a = dy, .a_row = 1, .a_step = out, .b = x, .b_row = in, .k = rows});
}

// sum [n] += the rows of x.
HWY_INLINE void add_rows(float* sum, const float* x, int64_t n, int64_t rows) {
  for_vectors(n, [&](auto io, int64_t k) HWY_ATTR {
    V total = io.load(sum + k);
    for (int64_t i = 0; i < rows; ++i) total = hn::Add(total, io.load(x + i * n + k));
    io.store(total, sum + k);
  });
}

// One board at one refinement.
struct Step {
  const RefineFactorSizes& z;
  const RefineFactorParameters<const float*>& w;
  const PackedWeights& packed;
  const CsrView& members;
  const CsrView& factors;
  const Scratch& scratch;
  const int32_t* clues;

  void gather(const CsrView& pattern, const float* x, int64_t n, float* out) const {
    sum_rows({.x = x, .out = out, .pattern = pattern, .batch = 1, .channels = n}, 0, pattern.rows);
  }

  // m, s and p of the states h.
  void messages(const float* h) const {
    const int64_t c = z.channels;
    tile_product(z.nodes, c, FromBias{w.message_bias}, StoreRelu{scratch.m, c},
                 term(h, c, packed.message, c, c));
    gather(members, scratch.m, c, scratch.s);
    for (int t = 0; t < z.types.count; ++t) {
      const int64_t first = z.types.first[t];
      const int64_t rows = z.types.first[t + 1] - first;
      tile_product(rows, c, FromBias{w.factor_bias + t * c}, StoreRelu{scratch.p + first * c, c},
                   term(scratch.s + first * c, c, packed.factor + t * c * c, c, c));
    }
  }

  // V_t p_f of every factor.
  void collect() const {
    const int64_t c = z.channels, n = z.hidden;
    for (int t = 0; t < z.types.count; ++t) {
      const int64_t first = z.types.first[t];
      const int64_t rows = z.types.first[t + 1] - first;
      tile_product(rows, n, FromZero{}, TileStore{scratch.at_factors + first * n, n},
                   term(scratch.p + first * c, c, packed.collect + t * c * n, n, c));
    }
  }

  // u of the variables [first, first + rows), from row 0 of `u`.
  void hidden(const float* h, int64_t first, int64_t rows, float* u) const {
    const int64_t c = z.channels, n = z.hidden;
    const auto start = [&](auto io, int64_t i, int64_t j) HWY_ATTR {
      V sum = io.load(w.clue + clues[first + i] * n + j);
      const int32_t* offsets = factors.offsets + first + i;
      for (int32_t e = offsets[0]; e < offsets[1]; ++e)
        sum = hn::Add(sum, io.load(scratch.at_factors + factors.indices[e] * n + j));
      return sum;
    };
    tile_product(rows, n, start, StoreRelu{u, n}, term(h + first * c, c, packed.own, n, c),
                 term(scratch.m + first * c, c, packed.own + c * n, n, c));
  }

  // h' of the same variables, and r.
  void update(const float* h, const float* u, int64_t first, int64_t rows, float* next,
              float* r) const {
    const int64_t c = z.channels;
    const auto start = [&](auto io, int64_t i, int64_t j) HWY_ATTR {
      return hn::Add(io.load(w.update_bias + j), io.load(h + (first + i) * c + j));
    };
    tile_product(rows, c, start, TileStore{next + first * c, c},
                 term(u, z.hidden, packed.update, c, z.hidden));
    for (int64_t i = first; i < first + rows; ++i) {
      float* y = next + i * c;
      V squares = hn::Zero(D());
      for_vectors(c, [&](auto io, int64_t k) HWY_ATTR {
        const V v = io.load(y + k);
        squares = hn::MulAdd(v, v, squares);
      });
      const float mean = sum_lanes(squares) / static_cast<float>(c);
      const float scale = 1 / std::sqrt(mean + static_cast<float>(z.epsilon));
      for_vectors(c, [&](auto io, int64_t k) HWY_ATTR {
        io.store(hn::Mul(io.load(y + k), hn::Set(D(), scale)), y + k);
      });
      if (r != nullptr) r[i] = scale;
    }
  }

  // ---- backward --------------------------------------------------------------------------------

  // From dh, which gets g added, to dy in its place: h' = r y and so y = h' / r.
  void through_norm(const float* g, const float* next, const float* r, int64_t first,
                    int64_t rows) const {
    const int64_t c = z.channels;
    for (int64_t i = first; i < first + rows; ++i) {
      float* d = scratch.dh + i * c;
      V dot = hn::Zero(D());
      for_vectors(c, [&](auto io, int64_t k) HWY_ATTR {
        const V v = hn::Add(io.load(d + k), io.load(g + i * c + k));
        io.store(v, d + k);
        dot = hn::MulAdd(v, io.load(next + i * c + k), dot);
      });
      const V mean = hn::Set(D(), sum_lanes(dot) / static_cast<float>(c));
      const V scale = hn::Set(D(), r[i]);
      for_vectors(c, [&](auto io, int64_t k) HWY_ATTR {
        const V v = hn::NegMulAdd(io.load(next + i * c + k), mean, io.load(d + k));
        io.store(hn::Mul(scale, v), d + k);
      });
    }
  }

  // From dy to du, and the gradients of the update and the clues, if any are wanted.
  void through_update(const float* u, int64_t first, int64_t rows,
                      const RefineFactorParameters<float*>& d) const {
    const int64_t c = z.channels, n = z.hidden;
    const float* dy = scratch.dh + first * c;
    float* du = scratch.du + first * n;
    tile_product(rows, n, FromZero{}, StoreMasked{du, u + first * n, n},
                 term(dy, c, w.update, n, c));
    if (d.update == nullptr) return;
    add_weight_gradient(d.update, n, dy, c, u + first * n, n, rows);
    add_rows(d.update_bias, dy, c, rows);
    for (int64_t i = 0; i < rows; ++i) add_rows(d.clue + clues[first + i] * n, du + i * n, n, 1);
  }

  // From du to ds, and the gradients of the factors' weights.
  void through_factors(const RefineFactorParameters<float*>& d) const {
    const int64_t c = z.channels, n = z.hidden, types = z.types.count;
    gather(members, scratch.du, n, scratch.at_factors);
    for (int t = 0; t < z.types.count; ++t) {
      const int64_t first = z.types.first[t];
      const int64_t end = z.types.first[t + 1];
      for (int64_t f = first; f < end; f += kBlock) {
        const int64_t rows = std::min(kBlock, end - f);
        const float *dv = scratch.at_factors + f * n, *p = scratch.p + f * c;
        float* dp = scratch.block;
        tile_product(rows, c, FromZero{}, StoreMasked{dp, p, c},
                     term(dv, n, w.collect + t * c, types * c, n));
        if (d.factor != nullptr) {
          add_weight_gradient(d.collect + t * c, types * c, dv, n, p, c, rows);
          add_weight_gradient(d.factor + t * c * c, c, dp, c, scratch.s + f * c, c, rows);
          add_rows(d.factor_bias + t * c, dp, c, rows);
        }
        tile_product(rows, c, FromZero{}, TileStore{scratch.ds + f * c, c},
                     term(dp, c, w.factor + t * c * c, c, c));
      }
    }
  }

  // From du, ds and dy to dh in the place of dy, and the gradients of the other weights.
  void through_messages(const float* h, int64_t first, int64_t rows,
                        const RefineFactorParameters<float*>& d) const {
    const int64_t c = z.channels, n = z.hidden;
    const float *du = scratch.du + first * n, *m = scratch.m + first * c;
    float* dm = scratch.block;
    const auto gathered = [&](auto io, int64_t i, int64_t j) HWY_ATTR {
      V sum = hn::Zero(D());
      const int32_t* offsets = factors.offsets + first + i;
      for (int32_t e = offsets[0]; e < offsets[1]; ++e)
        sum = hn::Add(sum, io.load(scratch.ds + factors.indices[e] * c + j));
      return sum;
    };
    tile_product(rows, c, gathered, StoreMasked{dm, m, c}, term(du, n, w.own + c, 2 * c, n));
    if (d.own != nullptr) {
      add_weight_gradient(d.own, 2 * c, du, n, h + first * c, c, rows);
      add_weight_gradient(d.own + c, 2 * c, du, n, m, c, rows);
      add_weight_gradient(d.message, c, dm, c, h + first * c, c, rows);
      add_rows(d.message_bias, dm, c, rows);
    }
    float* dh = scratch.dh + first * c;
    tile_product(rows, c, TileLoad{dh, c}, TileStore{dh, c}, term(du, n, w.own, 2 * c, n),
                 term(dm, c, w.message, c, c));
  }
};

void forward_board(const RefineFactorArgs<float>& args, const PackedWeights& packed,
                   const Scratch& scratch, int64_t b) {
  const RefineFactorSizes& z = args.sizes;
  const int64_t state = z.nodes * z.channels;
  const Step step{z,       args.parameters,         packed, args.members, args.factors,
                  scratch, args.clues + b * z.nodes};
  const float* h = args.h + b * state;
  for (int64_t t = 0; t < z.steps; ++t) {
    const bool keep = args.u != nullptr;
    const int64_t at = t * z.boards + b;
    float* next = keep               ? args.states + at * state
                  : t + 1 == z.steps ? args.states + b * state
                  : t % 2 == 0       ? scratch.even
                                     : scratch.odd;
    step.messages(h);
    step.collect();
    for (int64_t first = 0; first < z.nodes; first += kBlock) {
      const int64_t rows = std::min(kBlock, z.nodes - first);
      float* u = keep ? args.u + (at * z.nodes + first) * z.hidden : scratch.block;
      step.hidden(h, first, rows, u);
      step.update(h, u, first, rows, next, keep ? args.r + at * z.nodes : nullptr);
    }
    h = next;
  }
}

void backward_board(const RefineFactorBackwardArgs<float>& args, const PackedWeights& packed,
                    const Scratch& scratch, const RefineFactorParameters<float*>& d, int64_t b) {
  const RefineFactorSizes& z = args.sizes;
  const int64_t state = z.nodes * z.channels;
  const Step step{z,       args.parameters,         packed, args.members, args.factors,
                  scratch, args.clues + b * z.nodes};
  std::fill(scratch.dh, scratch.dh + state, 0.f);
  for (int64_t t = z.steps; t-- > 0;) {
    const int64_t at = t * z.boards + b;
    const float* h = t == 0 ? args.h + b * state : args.states + (at - z.boards) * state;
    for (int64_t first = 0; first < z.nodes; first += kBlock) {
      const int64_t rows = std::min(kBlock, z.nodes - first);
      step.through_norm(args.g + at * state, args.states + at * state, args.r + at * z.nodes, first,
                        rows);
      step.through_update(args.u + at * z.nodes * z.hidden, first, rows, d);
    }
    step.messages(h);
    step.through_factors(d);
    for (int64_t first = 0; first < z.nodes; first += kBlock) {
      const int64_t rows = std::min(kBlock, z.nodes - first);
      step.through_messages(h, first, rows, d);
    }
  }
  std::copy(scratch.dh, scratch.dh + state, args.dh + b * state);
}

}  // namespace
}  // namespace stillpoint::kernels::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace stillpoint::kernels::cpu {
namespace {

HWY_EXPORT(forward_board);
HWY_EXPORT(backward_board);

// out [in, out] from w [out, in], whose rows start ldw apart.
void transpose(const float* w, int64_t ldw, int64_t out, int64_t in, float* to) {
  for (int64_t o = 0; o < out; ++o)
    for (int64_t i = 0; i < in; ++i) to[i * out + o] = w[o * ldw + i];
}

PackedWeights pack(const RefineFactorParameters<const float*>& w, const RefineFactorSizes& z,
                   float* at) {
  const int64_t c = z.channels, types = z.types.count;
  const PackedWeights packed(at, z);
  transpose(w.message, c, c, c, packed.message);
  for (int64_t t = 0; t < types; ++t) {
    transpose(w.factor + t * c * c, c, c, c, packed.factor + t * c * c);
    transpose(w.collect + t * c, types * c, z.hidden, c, packed.collect + t * c * z.hidden);
  }
  transpose(w.own, 2 * c, z.hidden, 2 * c, packed.own);
  transpose(w.update, z.hidden, c, z.hidden, packed.update);
  return packed;
}

// Boards of one group, whose gradients add up in one place.
int64_t boards_a_chunk(const RefineFactorSizes& z) {
  return (z.boards + kRefineFactorChunks - 1) / kRefineFactorChunks;
}

}  // namespace

int64_t refine_factor_workspace(const RefineFactorSizes& z) {
  return PackedWeights::size(z) + num_threads() * Scratch::size(z);
}

int64_t refine_factor_backward_workspace(const RefineFactorSizes& z) {
  return refine_factor_workspace(z) + kRefineFactorChunks * parameter_count(z);
}

void refine_factor(const RefineFactorArgs<float>& args) {
  const RefineFactorSizes& z = args.sizes;
  const PackedWeights packed = pack(args.parameters, z, args.workspace);
  float* scratch = args.workspace + PackedWeights::size(z);
  parallel_for(z.boards, 1, [&](int64_t b, int64_t) {
    const Scratch mine(scratch + worker_index() * Scratch::size(z), z);
    HWY_DYNAMIC_DISPATCH(forward_board)(args, packed, mine, b);
  });
}

void refine_factor_backward(const RefineFactorBackwardArgs<float>& args) {
  const RefineFactorSizes& z = args.sizes;
  const int64_t count = parameter_count(z), boards = boards_a_chunk(z);
  const PackedWeights packed = pack(args.parameters, z, args.workspace);
  float* scratch = args.workspace + PackedWeights::size(z);
  float* partial = scratch + num_threads() * Scratch::size(z);
  parallel_for(z.boards, boards, [&](int64_t first, int64_t last) {
    const Scratch mine(scratch + worker_index() * Scratch::size(z), z);
    RefineFactorParameters<float*> d{};
    if (args.dparameters != nullptr) {
      float* sum = partial + first / boards * count;
      std::fill(sum, sum + count, 0.f);
      d = split_parameters(sum, z);
    }
    for (int64_t b = first; b < last; ++b)
      HWY_DYNAMIC_DISPATCH(backward_board)(args, packed, mine, d, b);
  });
  if (args.dparameters == nullptr) return;
  std::fill(args.dparameters, args.dparameters + count, 0.f);
  for (int64_t first = 0; first < z.boards; first += boards) {
    const float* sum = partial + first / boards * count;
    for (int64_t k = 0; k < count; ++k) args.dparameters[k] += sum[k];
  }
}

}  // namespace stillpoint::kernels::cpu
#endif  // HWY_ONCE
