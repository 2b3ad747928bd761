// One refinement of one board and the way back through it, from products whose sums are finished
// (bias, relu, gathered factors, mask) on their way out. Included after <hwy/highway.h>, once per
// instruction set.
#if defined(STILLPOINT_REFINE_FACTOR_STEP_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef STILLPOINT_REFINE_FACTOR_STEP_INL_H
#undef STILLPOINT_REFINE_FACTOR_STEP_INL_H
#else
#define STILLPOINT_REFINE_FACTOR_STEP_INL_H
#endif

#include "kernels/factor_sum/factor_sum-inl.h"
#include "kernels/gemm/bf16_tile-inl.h"
#include "kernels/gemm/tile-inl.h"
#include "kernels/refine_factor/refine_factor_memory.h"

HWY_BEFORE_NAMESPACE();
namespace stillpoint::kernels::cpu::HWY_NAMESPACE {
namespace {

using namespace kernels::HWY_NAMESPACE;  // vectors, tiles

// Null where the caller wants the gradient of the states alone.
HWY_INLINE bool wants_parameters(const RefineFactorParameters<float*>& d) {
  return d.update != nullptr;
}

HWY_INLINE V relu(V v) { return hn::IfThenZeroElse(hn::Lt(v, hn::Zero(D())), v); }  // keeps NaN

struct StoreRelu {
  float* data;
  int64_t row;
  template <class Io>
  HWY_INLINE void operator()(Io io, V v, int64_t i, int64_t j) const {
    io.store(relu(v), data + i * row + j);
  }
};
// Stores a gradient where relu let its value y through: where 2 y > y. A zero to compare y with
// would keep a register through the product's loop, which needs all 16 of AVX2 for its sums (6 % of
// a training step of SymbolNet). It differs for y = infinity alone, behind which all is NaN.
struct StoreMasked {
  float* data;
  const float* y;
  int64_t row;
  template <class Io>
  HWY_INLINE void operator()(Io io, V v, int64_t i, int64_t j) const {
    const int64_t at = i * row + j;
    const V gate = io.load(y + at);
    const V twice = hn::Add(gate, gate);
    io.store(hn::IfThenElseZero(hn::Gt(twice, gate), v), data + at);
  }
};

// Has x [count] brought into the second-level cache, of which a line holds 16 numbers.
HWY_INLINE void prefetch(const float* x, int64_t count) {
  for (int64_t k = 0; k < count; k += 16) __builtin_prefetch(x + k, 0, 2);
}

// Rows [first, first + rows) of a pattern.
HWY_INLINE CsrView rows_of(CsrView pattern, int64_t first, int64_t rows) {
  pattern.offsets += first;
  pattern.rows = rows;
  return pattern;
}

// sum [n] += the rows of x.
HWY_INLINE void add_rows(float* sum, const float* x, int64_t n, int64_t rows) {
  for_vectors(n, [&](auto io, int64_t k) HWY_ATTR {
    V total = io.load(sum + k);
    for (int64_t i = 0; i < rows; ++i) total = hn::Add(total, io.load(x + i * n + k));
    io.store(total, sum + k);
  });
}

// One board at one refinement; P makes the products.
template <class P>
struct Step {
  using Weight = typename P::Weight;

  const P& products;
  const RefineFactorSizes& z;
  const RefineFactorParameters<const float*>& w;
  const Weights<Weight>& packed;
  const CsrView& members;
  const CsrView& factors;
  const Scratch& scratch;
  const int32_t* clues;

  HWY_INLINE WeightTerm<Weight> term(const float* x, int64_t row, const Weight& weight) const {
    return {x, row, weight};
  }

  // The pattern times x.
  void gather(const CsrView& pattern, const float* x, int64_t n, float* out) const {
    sum_rows({.x = x, .out = out, .pattern = pattern, .batch = 1, .channels = n}, 0, pattern.rows);
  }

  // m, s and p of the states h.
  void messages(const float* h) const {
    const int64_t c = z.channels;
    products.product(z.nodes, c, FromRow{w.message_bias}, StoreRelu{scratch.m, c},
                     term(h, c, packed.message));
    gather(members, scratch.m, c, scratch.s);
    for (int t = 0; t < z.types.count; ++t) {
      const int64_t first = z.types.first[t];
      const int64_t rows = z.types.first[t + 1] - first;
      products.product(rows, c, FromRow{w.factor_bias + t * c}, StoreRelu{scratch.p + first * c, c},
                       term(scratch.s + first * c, c, packed.factor[t]));
    }
  }

  // V_t p_f of every factor.
  void collect() const {
    const int64_t c = z.channels, n = z.hidden;
    for (int t = 0; t < z.types.count; ++t) {
      const int64_t first = z.types.first[t];
      const int64_t rows = z.types.first[t + 1] - first;
      products.product(rows, n, FromZero{}, TileStore{scratch.at_factors + first * n, n},
                       term(scratch.p + first * c, c, packed.collect[t]));
    }
  }

  // u of the variables [first, first + rows), from row 0 of `u`.
  void hidden(const float* h, int64_t first, int64_t rows, float* u) const {
    const int64_t c = z.channels, n = z.hidden;
    // Before the product, whose tiles would look every vector up for itself.
    for (int64_t i = 0; i < rows; ++i) {
      const float* clue = w.clue + clues[first + i] * n;
      const int32_t* offsets = factors.offsets + first + i;
      add_members(
          scratch.at_factors, n, factors.indices + offsets[0], offsets[1] - offsets[0],
          [&](auto io, int64_t k) HWY_ATTR { return io.load(clue + k); }, u + i * n);
    }
    products.product(rows, n, TileLoad{u, n}, StoreRelu{u, n}, term(h + first * c, c, packed.own),
                     term(scratch.m + first * c, c, packed.heard));
  }

  // h' of the same variables, and r.
  void update(const float* h, const float* u, int64_t first, int64_t rows, float* next,
              float* r) const {
    const int64_t c = z.channels;
    const auto start = [&](auto io, int64_t i, int64_t j) HWY_ATTR {
      return hn::Add(io.load(w.update_bias + j), io.load(h + (first + i) * c + j));
    };
    products.product(rows, c, start, TileStore{next + first * c, c},
                     term(u, z.hidden, packed.update));
    float scales[kBlock];  // all before the first is used: no row waits for another's root
    for (int64_t i = 0; i < rows; ++i) {
      const float* y = next + (first + i) * c;
      V squares = hn::Zero(D());
      for_vectors(c, [&](auto io, int64_t k) HWY_ATTR {
        const V v = io.load(y + k);
        squares = hn::MulAdd(v, v, squares);
      });
      scales[i] = sum_lanes(squares) / static_cast<float>(c);
    }
    for_vectors(rows, [&](auto io, int64_t i) HWY_ATTR {
      const V root =
          hn::Sqrt(hn::Add(io.load(scales + i), hn::Set(D(), static_cast<float>(z.epsilon))));
      io.store(hn::Div(hn::Set(D(), 1.f), root), scales + i);
    });
    for (int64_t i = 0; i < rows; ++i) {
      float* y = next + (first + i) * c;
      for_vectors(c, [&](auto io, int64_t k) HWY_ATTR {
        io.store(hn::Mul(io.load(y + k), hn::Set(D(), scales[i])), y + k);
      });
      if (r != nullptr) r[first + i] = scales[i];
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
                      const RefineFactorParameters<float*>& d,
                      const Weights<typename P::Gradient>& dw) const {
    const int64_t c = z.channels, n = z.hidden;
    const float* dy = scratch.dh + first * c;
    float* du = scratch.du + first * n;
    products.product(rows, n, FromZero{}, StoreMasked{du, u + first * n, n},
                     term(dy, c, packed.update));
    if (!wants_parameters(d)) return;
    const int64_t next = first + rows;
    prefetch(u + next * n, std::min(rows, z.nodes - next) * n);  // kept long ago, asked for next
    products.add_gradient(dw.update, products.left(dy, c, rows, scratch.left),
                          products.right(u + first * n, n, rows, scratch.right[0]));
    add_rows(d.update_bias, dy, c, rows);
    for (int64_t i = 0; i < rows; ++i) add_rows(d.clue + clues[first + i] * n, du + i * n, n, 1);
  }

  // From du to ds, and the gradients of the factors' weights.
  void through_factors(const RefineFactorParameters<float*>& d,
                       const Weights<typename P::Gradient>& dw) const {
    const int64_t c = z.channels, n = z.hidden;
    gather(members, scratch.du, n, scratch.at_factors);
    for (int t = 0; t < z.types.count; ++t) {
      const int64_t first = z.types.first[t];
      const int64_t end = z.types.first[t + 1];
      for (int64_t f = first; f < end; f += kBlock) {
        const int64_t rows = std::min(kBlock, end - f);
        const float *dv = scratch.at_factors + f * n, *p = scratch.p + f * c;
        float* dp = scratch.block;
        products.product(rows, c, FromZero{}, StoreMasked{dp, p, c},
                         term(dv, n, packed.collect[t]));
        if (wants_parameters(d)) {
          products.add_gradient(dw.collect[t], products.left(dv, n, rows, scratch.left),
                                products.right(p, c, rows, scratch.right[0]));
          products.add_gradient(dw.factor[t], products.left(dp, c, rows, scratch.left),
                                products.right(scratch.s + f * c, c, rows, scratch.right[0]));
          add_rows(d.factor_bias + t * c, dp, c, rows);
        }
        products.product(rows, c, FromZero{}, TileStore{scratch.ds + f * c, c},
                         term(dp, c, packed.factor[t]));
      }
    }
  }

  // From du, ds and dy to dh in the place of dy, and the gradients of the other weights.
  void through_messages(const float* h, int64_t first, int64_t rows,
                        const RefineFactorParameters<float*>& d,
                        const Weights<typename P::Gradient>& dw) const {
    const int64_t c = z.channels, n = z.hidden;
    const float *du = scratch.du + first * n, *m = scratch.m + first * c;
    float* dm = scratch.block;
    gather(rows_of(factors, first, rows), scratch.ds, c, dm);
    products.product(rows, c, TileLoad{dm, c}, StoreMasked{dm, m, c}, term(du, n, packed.heard));
    if (wants_parameters(d)) {
      const auto own = products.right(h + first * c, c, rows, scratch.right[0]);
      const auto heard = products.right(m, c, rows, scratch.right[1]);
      const auto to_hidden = products.left(du, n, rows, scratch.left);
      products.add_gradient(dw.own, to_hidden, own);
      products.add_gradient(dw.heard, to_hidden, heard);
      products.add_gradient(dw.message, products.left(dm, c, rows, scratch.left), own);
      add_rows(d.message_bias, dm, c, rows);
    }
    float* dh = scratch.dh + first * c;
    products.product(rows, c, TileLoad{dh, c}, TileStore{dh, c}, term(du, n, packed.own),
                     term(dm, c, packed.message));
  }
};

}  // namespace
}  // namespace stillpoint::kernels::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // STILLPOINT_REFINE_FACTOR_STEP_INL_H
