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
  const PackedWeights<Weight>& packed;
  const CsrView& members;
  const CsrView& factors;
  const Scratch& scratch;
  const int32_t* clues;

  HWY_INLINE WeightTerm<Weight> term(const float* x, int64_t row, const Weight& weight) const {
    return {x, row, weight};
  }

  // Rows [first, first + rows) of the pattern times x, from row 0 of `out`.
  void gather(CsrView pattern, int64_t first, int64_t rows, const float* x, int64_t n,
              float* out) const {
    pattern.offsets += first;
    pattern.rows = rows;
    sum_rows({.x = x, .out = out, .pattern = pattern, .batch = 1, .channels = n}, 0, rows);
  }

  // m, s and p of the states h.
  void messages(const float* h) const {
    const int64_t c = z.channels;
    products.product(z.nodes, c, FromRow{w.message_bias}, StoreRelu{scratch.m, c},
                     term(h, c, packed.forward.message));
    gather(members, 0, members.rows, scratch.m, c, scratch.s);
    for (int t = 0; t < z.types.count; ++t) {
      const int64_t first = z.types.first[t];
      const int64_t rows = z.types.first[t + 1] - first;
      products.product(rows, c, FromRow{w.factor_bias + t * c}, StoreRelu{scratch.p + first * c, c},
                       term(scratch.s + first * c, c, packed.forward.factor[t]));
    }
  }

  // V_t p_f of every factor.
  void collect() const {
    const int64_t c = z.channels, n = z.hidden;
    for (int t = 0; t < z.types.count; ++t) {
      const int64_t first = z.types.first[t];
      const int64_t rows = z.types.first[t + 1] - first;
      products.product(rows, n, FromZero{}, TileStore{scratch.at_factors + first * n, n},
                       term(scratch.p + first * c, c, packed.forward.collect[t]));
    }
  }

  // u of the variables [first, first + rows), from row 0 of `u`.
  void hidden(const float* h, int64_t first, int64_t rows, float* u) const {
    const int64_t c = z.channels, n = z.hidden;
    const int64_t lanes = static_cast<int64_t>(hn::Lanes(D()));
    for (int64_t i = 0; i < rows;
         ++i) {  // before the product, whose tiles would look up each vector
      const float* clue = w.clue + clues[first + i] * n;
      const int32_t* offsets = factors.offsets + first + i;
      for_blocks<4>(n, [&](auto io, int64_t k, auto vectors) HWY_ATTR {
        V sum[vectors.value];
        each<vectors.value>([&](auto v) HWY_ATTR { sum[v] = io.load(clue + k + v * lanes); });
        for (int32_t e = offsets[0]; e < offsets[1]; ++e) {
          const float* from = scratch.at_factors + factors.indices[e] * n + k;
          each<vectors.value>(
              [&](auto v) HWY_ATTR { sum[v] = hn::Add(sum[v], io.load(from + v * lanes)); });
        }
        each<vectors.value>([&](auto v) HWY_ATTR { io.store(sum[v], u + i * n + k + v * lanes); });
      });
    }
    products.product(rows, n, TileLoad{u, n}, StoreRelu{u, n},
                     term(h + first * c, c, packed.forward.own),
                     term(scratch.m + first * c, c, packed.forward.heard));
  }

  // h' of the same variables, and r.
  void update(const float* h, const float* u, int64_t first, int64_t rows, float* next,
              float* r) const {
    const int64_t c = z.channels;
    const auto start = [&](auto io, int64_t i, int64_t j) HWY_ATTR {
      return hn::Add(io.load(w.update_bias + j), io.load(h + (first + i) * c + j));
    };
    products.product(rows, c, start, TileStore{next + first * c, c},
                     term(u, z.hidden, packed.forward.update));
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
                     term(dy, c, packed.backward.update));
    if (!wants_parameters(d)) return;
    products.add_gradient(dw.update, products.left(dy, c, rows, scratch.left),
                          products.right(u + first * n, n, rows, scratch.right[0]));
    add_rows(d.update_bias, dy, c, rows);
    for (int64_t i = 0; i < rows; ++i) add_rows(d.clue + clues[first + i] * n, du + i * n, n, 1);
  }

  // From du to ds, and the gradients of the factors' weights.
  void through_factors(const RefineFactorParameters<float*>& d,
                       const Weights<typename P::Gradient>& dw) const {
    const int64_t c = z.channels, n = z.hidden;
    gather(members, 0, members.rows, scratch.du, n, scratch.at_factors);
    for (int t = 0; t < z.types.count; ++t) {
      const int64_t first = z.types.first[t];
      const int64_t end = z.types.first[t + 1];
      for (int64_t f = first; f < end; f += kBlock) {
        const int64_t rows = std::min(kBlock, end - f);
        const float *dv = scratch.at_factors + f * n, *p = scratch.p + f * c;
        float* dp = scratch.block;
        products.product(rows, c, FromZero{}, StoreMasked{dp, p, c},
                         term(dv, n, packed.backward.collect[t]));
        if (wants_parameters(d)) {
          products.add_gradient(dw.collect[t], products.left(dv, n, rows, scratch.left),
                                products.right(p, c, rows, scratch.right[0]));
          products.add_gradient(dw.factor[t], products.left(dp, c, rows, scratch.left),
                                products.right(scratch.s + f * c, c, rows, scratch.right[0]));
          add_rows(d.factor_bias + t * c, dp, c, rows);
        }
        products.product(rows, c, FromZero{}, TileStore{scratch.ds + f * c, c},
                         term(dp, c, packed.backward.factor[t]));
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
    gather(factors, first, rows, scratch.ds, c, dm);
    products.product(rows, c, TileLoad{dm, c}, StoreMasked{dm, m, c},
                     term(du, n, packed.backward.heard));
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
    products.product(rows, c, TileLoad{dh, c}, TileStore{dh, c}, term(du, n, packed.backward.own),
                     term(dm, c, packed.backward.message));
  }
};

}  // namespace
}  // namespace stillpoint::kernels::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // STILLPOINT_REFINE_FACTOR_STEP_INL_H
