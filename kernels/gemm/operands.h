// Operands of a fused op's products in either precision, and the workspace they are packed into.
#pragma once

#include <cstdint>

#include "kernels/gemm/bf16.h"

namespace stillpoint::kernels {

// Cuts a workspace into pieces that begin on cache lines. Without memory it only counts.
class Pieces {
 public:
  explicit Pieces(float* workspace) : workspace_(workspace) {}
  float* floats(int64_t n) {
    float* piece = workspace_ == nullptr ? nullptr : workspace_ + size_;
    size_ += (n + 15) / 16 * 16;
    return piece;
  }
  uint16_t* packed(int64_t n) { return reinterpret_cast<uint16_t*>(floats((n + 1) / 2)); }
  int64_t size() const { return size_; }

 private:
  float* workspace_;
  int64_t size_ = 0;
};

// Rows of x, which start `row` apart, times a weight.
template <class Weight>
struct WeightTerm {
  const float* x;
  int64_t row;
  Weight weight;
};

// A weight as the right factor [k, n].
struct Fp32Weight {
  const float* data;
  int64_t row, k;
};
struct Bf16Weight {
  const uint16_t* data;
  int64_t k;
};

// The gradient of a weight while it is added up: row by row, or in tiles, those of a row of tiles
// next to each other and padded.
struct Fp32Gradient {
  float* data;
  int64_t row;
};
struct Bf16Gradient {
  float* data;
};

// Memory of one thread for the products of a strip of rows: the rows of all terms, packed, and the
// sums, whose rows are padded to whole tiles.
constexpr int64_t kStrip = 32;
struct Bf16Strip {
  uint16_t* rows;
  float* sums;
};

// Makes factors of products from weights [out, in], which begin at w + offset and whose rows start
// `row` apart: w^T, with which x goes forward, and w, with which a gradient goes back. Where Pieces
// only count, w may be null.
struct Fp32Packer {
  using Weight = Fp32Weight;
  Pieces& pieces;

  Weight transposed(const float* w, int64_t offset, int64_t row, int64_t out, int64_t in) const {
    float* to = pieces.floats(out * in);
    for (int64_t o = 0; o < out && to != nullptr; ++o)
      for (int64_t i = 0; i < in; ++i) to[i * out + o] = w[offset + o * row + i];
    return {to, out, in};
  }
  Weight straight(const float* w, int64_t offset, int64_t row, int64_t out, int64_t) const {
    return {w == nullptr ? nullptr : w + offset, row, out};
  }
};
struct Bf16Packer {
  using Weight = Bf16Weight;
  Pieces& pieces;
  const Bf16Kernel& kernel;

  Weight transposed(const float* w, int64_t offset, int64_t row, int64_t out, int64_t in) const {
    uint16_t* to = pieces.packed(packed_size(out, in));
    if (to != nullptr) kernel.pack_b_transposed(w + offset, row, out, in, to);
    return {to, in};
  }
  Weight straight(const float* w, int64_t offset, int64_t row, int64_t out, int64_t in) const {
    uint16_t* to = pieces.packed(packed_size(in, out));
    if (to != nullptr) kernel.pack_b(w + offset, row, out, in, to);
    return {to, out};
  }
};

}  // namespace stillpoint::kernels
