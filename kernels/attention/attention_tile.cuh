// Tiles of rows in shared memory, and what attention's kernels do with them.
#pragma once

#include "kernels/attention/attention.h"
#include "kernels/common/launch.h"

namespace stillpoint::kernels::cuda::attention_tile {

// Rows of kWidth floats, four floats apart from whole lines: eight lanes that read four floats each
// from eight neighbouring rows meet 32 different banks.
template <int kWidth>
struct Tile {
  static constexpr int kStride = kWidth + 4;
};

// One head's rows of [batch, count, heads width]. `mask`: rows with 0 read as zeros.
template <class Pointer>
struct Rows {
  Pointer first;
  const int32_t* mask;  // or null
  int64_t stride, count, width;

  __device__ __forceinline__ Pointer row(int64_t i) const { return first + i * stride; }
};

struct Head {
  const AttentionShape& shape;
  int64_t number, sample, column;
  const int32_t* mask;  // of the sample's keys, or null

  __device__ __forceinline__ Head(const AttentionShape& s, int64_t head, const int32_t* key_mask)
      : shape(s),
        number(head),
        sample(head / s.heads),
        column(head % s.heads * s.width),
        mask(key_mask == nullptr ? nullptr : key_mask + head / s.heads * s.keys) {}

  template <class Pointer>
  __device__ __forceinline__ Rows<Pointer> queries(Pointer x) const {
    const int64_t stride = shape.heads * shape.width;
    return {x + sample * shape.queries * stride + column, nullptr, stride, shape.queries,
            shape.width};
  }
  template <class Pointer>
  __device__ __forceinline__ Rows<Pointer> keys(Pointer x) const {
    const int64_t stride = shape.heads * shape.width;
    return {x + sample * shape.keys * stride + column, mask, stride, shape.keys, shape.width};
  }
  // Where log_sum and delta hold query i.
  __device__ __forceinline__ int64_t saved(int64_t i) const { return number * shape.queries + i; }
  __device__ __forceinline__ bool there(int64_t key) const {
    return mask == nullptr || mask[key] != 0;
  }
  __device__ __forceinline__ bool sees(int64_t query, int64_t key) const {
    return key < shape.keys && (shape.mask == AttentionMask::none || key <= query) && there(key);
  }
};

// Rows [begin, begin + kRows), filled up with zeros.
template <int kWidth, int kRows, int kThreads>
__device__ __forceinline__ void load_tile(const Rows<const float*>& from, int64_t begin,
                                          float* tile) {
  for (int e = static_cast<int>(threadIdx.x); e < kRows * kWidth; e += kThreads) {
    const int r = e / kWidth, d = e % kWidth;
    const int64_t i = begin + r;
    const bool there =
        i < from.count && d < from.width && (from.mask == nullptr || from.mask[i] != 0);
    tile[r * Tile<kWidth>::kStride + d] = there ? from.row(i)[d] : 0.f;
  }
}

__device__ __forceinline__ float4 four(const float* from) {
  return *reinterpret_cast<const float4*>(from);
}
__device__ __forceinline__ void scale(float4& v, float by) {
  v.x *= by, v.y *= by, v.z *= by, v.w *= by;
}

// s[r][c] += x[row + r] . y[lane + c lanes], where kRows and kColumns fix the lanes of a row.
template <int kWidth, int kRows, int kColumns>
__device__ __forceinline__ void add_dots(const float* x, int row, const float* y, int lane,
                                         float (&s)[kRows][kColumns]) {
  constexpr int kStride = Tile<kWidth>::kStride;
  constexpr int kLanes = kWidth == 32 ? 8 : 16;
  for (int d = 0; d < kWidth; d += 4) {
    float4 b[kColumns];
#pragma unroll
    for (int c = 0; c < kColumns; ++c) b[c] = four(y + (lane + c * kLanes) * kStride + d);
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const float4 a = four(x + (row + r) * kStride + d);
#pragma unroll
      for (int c = 0; c < kColumns; ++c)
        s[r][c] =
            fmaf(a.w, b[c].w, fmaf(a.z, b[c].z, fmaf(a.y, b[c].y, fmaf(a.x, b[c].x, s[r][c]))));
    }
  }
}

// out[r] += sum over j of p[row + r][j] y[j]: lane's parts are the columns 4 lane and on, every 4
// lanes.
template <int kWidth, int kCount, int kRows, int kParts>
__device__ __forceinline__ void add_rows(const float* p, int row, const float* y, int lane,
                                         float4 (&out)[kRows][kParts]) {
  constexpr int kLanes = kWidth / (4 * kParts);
  for (int j = 0; j < kCount; ++j) {
    float4 b[kParts];
#pragma unroll
    for (int c = 0; c < kParts; ++c)
      b[c] = four(y + j * Tile<kWidth>::kStride + 4 * (lane + c * kLanes));
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const float a = p[(row + r) * Tile<kCount>::kStride + j];
#pragma unroll
      for (int c = 0; c < kParts; ++c) {
        out[r][c].x = fmaf(a, b[c].x, out[r][c].x);
        out[r][c].y = fmaf(a, b[c].y, out[r][c].y);
        out[r][c].z = fmaf(a, b[c].z, out[r][c].z);
        out[r][c].w = fmaf(a, b[c].w, out[r][c].w);
      }
    }
  }
}

// Row i of the output: the lane's parts times `factor`.
template <int kWidth, int kParts>
__device__ __forceinline__ void store_row(const Rows<float*>& to, int64_t i, int lane,
                                          const float4 (&parts)[kParts], float factor) {
  constexpr int kLanes = kWidth / (4 * kParts);
  float* row = to.row(i);
#pragma unroll
  for (int c = 0; c < kParts; ++c) {
    const int d = 4 * (lane + c * kLanes);
    const float v[4] = {parts[c].x, parts[c].y, parts[c].z, parts[c].w};
#pragma unroll
    for (int e = 0; e < 4; ++e)
      if (d + e < to.width) row[d + e] = v[e] * factor;
  }
}

}  // namespace stillpoint::kernels::cuda::attention_tile
