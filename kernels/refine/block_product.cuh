// Products of small matrices by one block, from shared or global memory, plainly tiled: the block's
// 256 threads hold a tile of 96 rows by 32 columns of the result in registers, three rows of four
// columns each, while tiles of the factors pass through shared memory. For .cu files only.
#pragma once

#include "kernels/common/float4.cuh"
#include "kernels/common/launch.h"

namespace stillpoint::kernels::cuda {

constexpr int kThreads = 256;
constexpr int kColumns = 32;                // of a tile of the result
constexpr int kLanes = kColumns / 4;        // threads along them
constexpr int kGroups = kThreads / kLanes;  // and along the rows
constexpr int kRowsPerThread = 3;           // 81 nodes are one tile
constexpr int kRows = kRowsPerThread * kGroups;
constexpr int kDepth = 32;    // terms that are in shared memory at a time
constexpr int kMatrices = 3;  // multiplied at a time: the gates

// Padded so that the threads of a warp write to different banks, and rows of b stay aligned.
struct Tiles {
  float a[kDepth][kRows + 1];
  float b[kMatrices][kDepth][kColumns + 4];
};
static_assert(sizeof(float[kDepth][kRows + 1]) % sizeof(float4) == 0);

// Element (i, j) is first[i * row + j * column]; in shared or global memory. Matrices of one block
// are small: positions in them are int.
struct Matrix {
  const float* first;
  int row, column;
};
__device__ __forceinline__ Matrix plain(const float* first, int columns) {
  return {first, columns, 1};
}
__device__ __forceinline__ Matrix transposed(const float* first, int columns) {
  return {first, 1, columns};
}

// Copies the tile of m that starts at (i0, j0) to `tile`, zeros where m [rows, columns] has ended.
// Neighbouring threads take neighbouring addresses. `rows` and `columns` of the tile are kTileRows
// and kTileColumns; rows of the copy lie along its first index, or along its second if
// kTransposed.
template <int kTileRows, int kTileColumns, bool kTransposed, class Tile>
__device__ __forceinline__ void fill(Tile& tile, const Matrix& m, int i0, int j0, int rows,
                                     int columns) {
  const bool along_columns = m.column == 1;
#pragma unroll 4
  for (int e = static_cast<int>(threadIdx.x); e < kTileRows * kTileColumns; e += kThreads) {
    const int i = along_columns ? e / kTileColumns : e % kTileRows;
    const int j = along_columns ? e % kTileColumns : e / kTileRows;
    const bool inside = i0 + i < rows && j0 + j < columns;
    const float value = inside ? m.first[(i0 + i) * m.row + (j0 + j) * m.column] : 0.f;
    (kTransposed ? tile[j][i] : tile[i][j]) = value;
  }
}

// A tile of the result in registers: of kCount products with one left factor.
template <int kCount>
struct Sums {
  float4 v[kCount][kRowsPerThread] = {};
};

// Where a tile of the result lies in it.
struct Place {
  int row, column;
};

// sums[m] += the tile at `place` of a [rows, depth] b[m] [depth, columns]. Begins with a barrier,
// so what other threads wrote before the call may be read.
template <int kCount>
__device__ __forceinline__ void multiply(Tiles& tiles, const Matrix& a, const Matrix (&b)[kCount],
                                         Place place, int rows, int depth, int columns,
                                         Sums<kCount>& sums) {
  static_assert(kCount <= kMatrices);
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  const int group = static_cast<int>(threadIdx.x) / kLanes;
  for (int l0 = 0; l0 < depth; l0 += kDepth) {
    __syncthreads();
    fill<kRows, kDepth, true>(tiles.a, a, place.row, l0, rows, depth);
#pragma unroll
    for (int m = 0; m < kCount; ++m)
      fill<kDepth, kColumns, false>(tiles.b[m], b[m], l0, place.column, depth, columns);
    __syncthreads();
#pragma unroll 4
    for (int l = 0; l < kDepth; ++l) {
      float left[kRowsPerThread];
#pragma unroll
      for (int r = 0; r < kRowsPerThread; ++r) left[r] = tiles.a[l][group + r * kGroups];
#pragma unroll
      for (int m = 0; m < kCount; ++m) {
        const float4 right = *reinterpret_cast<const float4*>(&tiles.b[m][l][4 * lane]);
#pragma unroll
        for (int r = 0; r < kRowsPerThread; ++r)
          sums.v[m][r] = multiply_add(left[r], right, sums.v[m][r]);
      }
    }
  }
}

// Calls body(row, column, r, k) for the thread's elements of a tile; they stand in v[..][r], k-th.
template <class Body>
__device__ __forceinline__ void for_tile(Place place, int rows, int columns, Body body) {
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  const int group = static_cast<int>(threadIdx.x) / kLanes;
#pragma unroll
  for (int r = 0; r < kRowsPerThread; ++r)
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      const int row = place.row + group + r * kGroups;
      const int column = place.column + 4 * lane + k;
      if (row < rows && column < columns) body(row, column, r, k);
    }
}
__device__ __forceinline__ float part(const float4& v, int k) {
  return k == 0 ? v.x : k == 1 ? v.y : k == 2 ? v.z : v.w;
}

// Calls body(place) for the tiles of a result; all threads of the block take part in each.
template <class Body>
__device__ __forceinline__ void for_places(int rows, int columns, Body body) {
  for (int row = 0; row < rows; row += kRows)
    for (int column = 0; column < columns; column += kColumns) body(Place{row, column});
}

// Calls body(index) for the block's share of [0, n).
template <class Body>
__device__ __forceinline__ void for_block(int n, Body body) {
  for (int e = static_cast<int>(threadIdx.x); e < n; e += kThreads) body(e);
}

}  // namespace stillpoint::kernels::cuda
