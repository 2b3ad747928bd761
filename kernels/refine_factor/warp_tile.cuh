// Products of a tile of rows by one warp: what refine_factor's kernels are built from. A warp goes
// alone through everything that is done to its rows; what it makes of them lies in a tile of memory
// that is its own, so that __syncwarp is the only barrier between two products.
//
// A lane holds kR rows by four columns, or eight, of a result in registers. Operands are
// read as float4: the tile's along k, the matrix's along its columns, so that four terms of k are
// 16 kR multiply-adds for kR + 4 loads (twice as many for kR + 8).
// Every element is one chain of fused multiply-adds in the order of k.
#pragma once

#include "kernels/common/csr.h"
#include "kernels/common/float4.cuh"
#include "kernels/common/launch.h"

namespace stillpoint::kernels::cuda {
namespace {

constexpr int kGroups = 4;        // lanes along the rows; the other 8 lie along 32 columns
constexpr int kTileColumns = 32;  // of a result, in one float4 a lane
// Where a lane stands: rows group, group + kGroups, ... of the tile, and columns column to
// column + 3 of every 32. Neighbouring lanes have the same columns and the next two the same row:
// in this order a load of 16 bytes reads each address once for half a warp, and half a warp's
// addresses lie in different banks.
struct Lane {
  int group, column;

  __device__ __forceinline__ Lane() {
    const int lane = block_thread() % kWarpSize;
    group = lane / 16 * 2 + lane % 2;
    column = lane % 16 / 2 * 4;
  }
};
// The sum over the lanes of a row, in all of them. The whole warp must call.
__device__ __forceinline__ float row_sum(float x, Site site = Site::current()) {
  [[maybe_unused]] const Caller caller(site);
#pragma unroll
  for (int other = 8; other > 1; other /= 2) x += __shfl_xor_sync(kFullMask, x, other);
  return x;
}
// The sum over the lanes of a column.
__device__ __forceinline__ float group_sum(float x, Site site = Site::current()) {
  [[maybe_unused]] const Caller caller(site);
  x += __shfl_xor_sync(kFullMask, x, 16);
  return x + __shfl_xor_sync(kFullMask, x, 1);
}

__device__ __forceinline__ float4 load4(const float* from) {
  return *reinterpret_cast<const float4*>(from);
}
__device__ __forceinline__ void store4(float* to, float4 v) { *reinterpret_cast<float4*>(to) = v; }

// v with zeros where column + k is n or more.
__device__ __forceinline__ float4 inside(float4 v, int column, int n) {
  return make_float4(column < n ? v.x : 0.f, column + 1 < n ? v.y : 0.f, column + 2 < n ? v.z : 0.f,
                     column + 3 < n ? v.w : 0.f);
}

// A lane's rows in a tile of the rows from `begin` to `end`: kR of them, kGroups apart.
template <int kR>
struct LaneRows {
  int first, left;

  __device__ __forceinline__ LaneRows(int begin, int end, const Lane& lane)
      : first(begin + lane.group), left(end - first) {}
  __device__ __forceinline__ int row(int r) const { return first + kGroups * r; }
  __device__ __forceinline__ bool has(int r) const { return kGroups * r < left; }
  // The last row of all for those past it.
  __device__ __forceinline__ int existing(int r) const {
    return has(r) ? row(r) : first + left - 1;
  }
};

// Rows as a caller has them, one behind the other, of kWhole floats, or of `columns` where kWhole
// is 0. What lies past the last row or column reads as 0 and is not written.
template <class T, int kWhole>
struct Rows {
  T* data;
  int columns;
  bool as_float4;  // every row starts on 16 bytes; always so with kWhole

  template <int kR>
  __device__ __forceinline__ float4 load(const LaneRows<kR>& rows, int r, int column) const {
    if (!rows.has(r)) return all<float4>(0.f);
    if constexpr (kWhole > 0) return load4(data + rows.row(r) * kWhole + column);
    const float* at = data + rows.row(r) * columns + column;
    if (as_float4) return column < columns ? load4(at) : all<float4>(0.f);
    return make_float4(column < columns ? at[0] : 0.f, column + 1 < columns ? at[1] : 0.f,
                       column + 2 < columns ? at[2] : 0.f, column + 3 < columns ? at[3] : 0.f);
  }
  template <int kR>
  __device__ __forceinline__ void store(const LaneRows<kR>& rows, int r, int column,
                                        float4 v) const {
    if (!rows.has(r)) return;
    if constexpr (kWhole > 0) return store4(data + rows.row(r) * kWhole + column, v);
    float* at = data + rows.row(r) * columns + column;
    if (as_float4) {
      if (column < columns) store4(at, v);
      return;
    }
#pragma unroll
    for (int k = 0; k < 4; ++k)
      if (column + k < columns) at[k] = part(v, k);
  }
};

// A lane's part of a result: kR rows, kJ times four columns.
template <int kR, int kJ>
using Sums = float4[kR][kJ];

// sums += a b. `a` is the lane's first row, and a_row is from one row of the tile to the next; `b`
// [depth, ..] the lane's first column, with kJ columns `jump` apart. depth is a multiple of 4.
template <int kR, int kJ>
__device__ __forceinline__ void multiply(const float* a, int a_row, const float* b, int b_row,
                                         int jump, int depth, Sums<kR, kJ>& sums) {
#pragma unroll(2 / kJ)
  for (int k = 0; k < depth; k += 4) {
    float4 left[kR];
#pragma unroll
    for (int r = 0; r < kR; ++r) left[r] = load4(a + kGroups * r * a_row + k);
#pragma unroll
    for (int q = 0; q < 4; ++q) {
#pragma unroll
      for (int j = 0; j < kJ; ++j) {
        const float4 right = load4(b + (k + q) * b_row + j * jump);
#pragma unroll
        for (int r = 0; r < kR; ++r) sums[r][j] = multiply_add(part(left[r], q), right, sums[r][j]);
      }
    }
  }
}

// sums += the rows of x, `x_row` apart, that the pattern lists for each of `rows`, in its order.
template <int kR, int kJ>
__device__ __forceinline__ void add_gathered(const CsrView& pattern, const LaneRows<kR>& rows,
                                             const float* x, int x_row, int jump,
                                             Sums<kR, kJ>& sums) {
  if (pattern.degree > 0) {  // then loads of different rows need not wait for each other
    int next[kR];
#pragma unroll
    for (int r = 0; r < kR; ++r) next[r] = pattern.indices[rows.existing(r) * pattern.degree];
#pragma unroll 1
    for (int d = 1; d <= pattern.degree; ++d) {
      const float* from[kR];
#pragma unroll
      for (int r = 0; r < kR; ++r) {
        from[r] = x + next[r] * x_row;
        if (d < pattern.degree) next[r] = pattern.indices[rows.existing(r) * pattern.degree + d];
      }
#pragma unroll
      for (int r = 0; r < kR; ++r)
#pragma unroll
        for (int j = 0; j < kJ; ++j) sums[r][j] = add(sums[r][j], load4(from[r] + j * jump));
    }
    return;
  }
#pragma unroll
  for (int r = 0; r < kR; ++r)
#pragma unroll 1
    for (int32_t e = pattern.offsets[rows.existing(r)]; e < pattern.offsets[rows.existing(r) + 1];
         ++e)
#pragma unroll
      for (int j = 0; j < kJ; ++j)
        sums[r][j] = add(sums[r][j], load4(x + pattern.indices[e] * x_row + j * jump));
}

}  // namespace
}  // namespace stillpoint::kernels::cuda
