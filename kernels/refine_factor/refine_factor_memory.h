// What refine_factor on the CPU keeps in its workspace.
#pragma once

#include <algorithm>

#include "kernels/gemm/operands.h"
#include "kernels/refine_factor/refine_factor.h"

namespace stillpoint::kernels::cpu {

// Rows of variables that go through all products of a phase while they are in the first-level
// cache: 64 rows of 2 C are 16 KB at C = 32.
constexpr int64_t kBlock = 64;

// One of each for every weight that is multiplied with.
template <class W>
struct Weights {
  W message, own, heard, update;  // `own` and `heard` read h and m
  W factor[FactorTypes::kMost], collect[FactorTypes::kMost];
};

// Calls f(one of `each`, w, offset, row, out, in) for every weight [out, in], which begins at w +
// offset and whose rows start `row` apart.
template <class W, class P, class F>
void for_each(Weights<W>& each, const RefineFactorParameters<P>& w, const RefineFactorSizes& z,
              const F& f) {
  const int64_t c = z.channels, n = z.hidden, types = z.types.count;
  f(each.message, w.message, int64_t{0}, c, c, c);
  f(each.own, w.own, int64_t{0}, 2 * c, n, c);
  f(each.heard, w.own, c, 2 * c, n, c);
  f(each.update, w.update, int64_t{0}, n, c, n);
  for (int64_t t = 0; t < types; ++t) {
    f(each.factor[t], w.factor, t * c * c, c, c, c);
    f(each.collect[t], w.collect, t * c, types * c, n, c);
  }
}

enum class Direction : uint8_t { forward, backward };

// The weights that rows are multiplied with: transposed in the forward, as they are in the
// backward.
template <class Packer>
Weights<typename Packer::Weight> pack(const RefineFactorParameters<const float*>& w,
                                      const RefineFactorSizes& z, Direction direction,
                                      const Packer& packer) {
  using Weight = typename Packer::Weight;
  Weights<Weight> packed{};
  for_each(
      packed, w, z,
      [&](Weight& to, const float* from, int64_t offset, int64_t row, int64_t out, int64_t in) {
        to = direction == Direction::forward ? packer.transposed(from, offset, row, out, in)
                                             : packer.straight(from, offset, row, out, in);
      });
  return packed;
}

// Scratch memory of one thread.
struct Scratch {
  float *at_factors, *block;
  float *m, *s, *p;     // forward: messages
  float *even, *odd;    // and states that nobody keeps
  float *dh, *du, *ds;  // backward
  // Of products in bfloat16: what they read, and gradients while they are added up.
  Bf16Strip strip;
  uint16_t *left, *right[2];
  Weights<Bf16Gradient> gradients;
  float* all_gradients;
  int64_t gradients_size;
};

inline Scratch make_scratch(Pieces& pieces, const RefineFactorSizes& z, Direction direction) {
  const int64_t c = z.channels, n = z.hidden, most = std::max(c, n);
  Scratch x{};
  x.at_factors = pieces.floats(z.factors() * n);
  x.block = pieces.floats(kBlock * most);
  if (direction == Direction::forward) {
    x.m = pieces.floats(z.nodes * c);
    x.s = pieces.floats(z.factors() * c);
    x.p = pieces.floats(z.factors() * c);
    x.even = pieces.floats(z.nodes * c);
    x.odd = pieces.floats(z.nodes * c);
  } else {
    x.dh = pieces.floats(z.nodes * c);
    x.du = pieces.floats(z.nodes * n);
    x.ds = pieces.floats(z.factors() * c);
  }
  if (z.precision == Precision::f32) return x;
  x.strip.rows = pieces.packed(2 * packed_size(kStrip, most));
  x.strip.sums = pieces.floats(kStrip * tiles(most) * kTile);
  if (direction == Direction::forward) return x;
  x.left = pieces.packed(packed_size(most, kBlock));
  for (uint16_t*& right : x.right) right = pieces.packed(packed_size(most, kBlock));
  const int64_t before = pieces.size();
  for_each(x.gradients, RefineFactorParameters<const float*>{}, z,
           [&](Bf16Gradient& to, const float*, int64_t, int64_t, int64_t out, int64_t in) {
             to.data = pieces.floats(tiles(out) * tiles(in) * kTile * kTile);
           });
  x.all_gradients = x.gradients.message.data;
  x.gradients_size = pieces.size() - before;
  return x;
}

// The same with m, s and p in the piece `at` of what the caller keeps, if it keeps any.
inline Scratch with_messages(Scratch x, float* kept, int64_t at, const RefineFactorSizes& z) {
  if (kept == nullptr) return x;
  x.m = kept + at * message_count(z);
  x.s = x.m + z.nodes * z.channels;
  x.p = x.s + z.factors() * z.channels;
  return x;
}

// Adds the tiles of a gradient to dw [out, in].
inline void unpack(const Bf16Gradient& from, float* dw, int64_t row, int64_t out, int64_t in) {
  for (int64_t o = 0; o < out; ++o)
    for (int64_t i = 0; i < in; ++i)
      dw[o * row + i] += from.data[(o / kTile * tiles(in) + i / kTile) * kTile * kTile +
                                   o % kTile * kTile + i % kTile];
}

}  // namespace stillpoint::kernels::cpu
