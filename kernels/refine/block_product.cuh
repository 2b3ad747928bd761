// Products of small matrices by one block of 256 threads. Matrices lie in shared memory, a row a
// node, rows `row` floats apart, an odd number of float4: threads that read four rows at once reach
// different banks. For .cu files only.
//
// multiply: a thread has three rows by four columns of three tiles 32 columns wide, which are one
// matrix or the gates of one; the right factor passes through shared memory 32 rows at a time, the
// next ones on their way while these are used. Four terms take three loads of 16 bytes for the rows
// and twelve for the columns, and 144 multiply-adds.
//
// add_outer: a thread has six rows by six columns of a^T b, both from shared memory: a node takes
// six loads of 8 bytes and 36 multiply-adds.
//
// Every element is one chain of fused multiply-adds in the order of the terms.
#pragma once

#include "kernels/common/float4.cuh"
#include "kernels/common/launch.h"

namespace stillpoint::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kTileColumns = 32;
constexpr int kLanes = kTileColumns / 4;    // threads along the columns of a tile
constexpr int kGroups = kThreads / kLanes;  // and along the rows
constexpr int kRowsPerThread = 3;           // 81 nodes are one tile
constexpr int kTileRows = kRowsPerThread * kGroups;
constexpr int kTiles = 3;
constexpr int kDepth = 32;                   // terms that are in shared memory at a time
static_assert(kDepth * kLanes == kThreads);  // each thread copies four numbers of a tile

struct Tiles {
  float4 b[kTiles][kDepth][kLanes];
};

// Columns [first, first + 32) of a matrix in memory whose rows are `width` floats apart, a multiple
// of 4, and hold nothing but zeros past their end.
struct RightTile {
  const float* matrix;
  int first;
};

struct Sums {
  float4 v[kTiles][kRowsPerThread] = {};
};

// sums.v[m] += rows [row0, row0 + 96) of a [rows, depth] times b[m] [depth, 32]. Columns of `a`
// from depth to the next multiple of four must be zero. Begins with a barrier, so what other
// threads wrote before the call may be read.
__device__ __forceinline__ void multiply(Tiles& tiles, const float* a, int row,
                                         const RightTile (&b)[kTiles], int width, int row0,
                                         int rows, int depth, Sums& sums) {
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  const int group = static_cast<int>(threadIdx.x) / kLanes;
  float4 next[kTiles];
  const auto fetch = [&](int l0) {
    const int l = l0 + group;
#pragma unroll
    for (int m = 0; m < kTiles; ++m) {
      const int column = b[m].first + 4 * lane;
      next[m] = l < depth && column < width
                    ? *reinterpret_cast<const float4*>(b[m].matrix + l * width + column)
                    : all<float4>(0.f);
    }
  };
  int left[kRowsPerThread];
#pragma unroll
  for (int r = 0; r < kRowsPerThread; ++r) {
    const int i = row0 + group + r * kGroups;
    left[r] = (i < rows ? i : rows - 1) * row;  // a row past the end is computed, not used
  }
  fetch(0);
  for (int l0 = 0; l0 < depth; l0 += kDepth) {
    __syncthreads();
#pragma unroll
    for (int m = 0; m < kTiles; ++m) tiles.b[m][group][lane] = next[m];
    __syncthreads();
    if (l0 + kDepth < depth) fetch(l0 + kDepth);
    const int deep = depth - l0 < kDepth ? depth - l0 : kDepth;
#pragma unroll 1
    for (int l = 0; l < deep; l += 4) {
      float4 from_a[kRowsPerThread];
#pragma unroll
      for (int r = 0; r < kRowsPerThread; ++r)
        from_a[r] = *reinterpret_cast<const float4*>(a + left[r] + l0 + l);
#pragma unroll
      for (int k = 0; k < 4; ++k)
#pragma unroll
        for (int m = 0; m < kTiles; ++m) {
          const float4 from_b = tiles.b[m][l + k][lane];
#pragma unroll
          for (int r = 0; r < kRowsPerThread; ++r)
            sums.v[m][r] = multiply_add(part(from_a[r], k), from_b, sums.v[m][r]);
        }
    }
  }
}

// body(i, k, r) for the thread's sums of a tile whose first column is column0: sums.v[..][r] are of
// row i and columns k to k + 3.
template <class Body>
__device__ __forceinline__ void for_sums(int row0, int rows, int column0, int columns, Body body) {
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  const int group = static_cast<int>(threadIdx.x) / kLanes;
#pragma unroll
  for (int r = 0; r < kRowsPerThread; ++r) {
    const int i = row0 + group + r * kGroups, k = column0 + 4 * lane;
    if (i < rows && k < columns) body(i, k, r);
  }
}

// body(i, k, sum) for every row i < rows and every fourth column k < columns of a [rows, depth]
// times the matrix b [depth, columns], whose rows are `width` floats apart; sum: its columns k to
// k + 3. Other threads may read what `body` writes after a barrier.
template <class Body>
__device__ __forceinline__ void product(Tiles& tiles, const float* a, int row, const float* b,
                                        int width, int rows, int depth, int columns, Body body) {
  for (int row0 = 0; row0 < rows; row0 += kTileRows)
    for (int column0 = 0; column0 < columns; column0 += kTiles * kTileColumns) {
      const RightTile right[] = {
          {b, column0}, {b, column0 + kTileColumns}, {b, column0 + 2 * kTileColumns}};
      Sums sums;
      multiply(tiles, a, row, right, width, row0, rows, depth, sums);
#pragma unroll
      for (int m = 0; m < kTiles; ++m)
        for_sums(row0, rows, right[m].first, columns,
                 [&](int i, int k, int r) { body(i, k, sums.v[m][r]); });
    }
}

// sum [columns, columns] += a^T b, both [nodes, columns] in shared memory. `sum` is the block's own
// memory, where a thread adds to the same elements in every call: atomics spare it the wait for
// what is there, and the order is that of the calls.
__device__ __forceinline__ void add_outer(const float* a, const float* b, int row, int nodes,
                                          int columns, float* sum) {
  constexpr int kSide = 16, kPairs = 3, kWide = 2 * kSide * kPairs;  // 16 by 16 threads
  const int down = 2 * (static_cast<int>(threadIdx.x) / kSide);
  const int across = 2 * (static_cast<int>(threadIdx.x) % kSide);
  for (int i0 = down; i0 < columns; i0 += kWide)
    for (int j0 = across; j0 < columns; j0 += kWide) {
      const float2 *left[kPairs], *right[kPairs];
#pragma unroll
      for (int v = 0; v < kPairs; ++v) {
        const int i = i0 + 2 * kSide * v, j = j0 + 2 * kSide * v;
        left[v] = reinterpret_cast<const float2*>(a + (i < row ? i : 0));
        right[v] = reinterpret_cast<const float2*>(b + (j < row ? j : 0));
      }
      float total[2 * kPairs][2 * kPairs] = {};
#pragma unroll 2
      for (int l = 0; l < nodes; ++l) {
        float2 x[kPairs], y[kPairs];
#pragma unroll
        for (int v = 0; v < kPairs; ++v) {
          x[v] = left[v][l * (row / 2)];
          y[v] = right[v][l * (row / 2)];
        }
#pragma unroll
        for (int v = 0; v < kPairs; ++v)
#pragma unroll
          for (int w = 0; w < kPairs; ++w) {
            total[2 * v][2 * w] = fmaf(x[v].x, y[w].x, total[2 * v][2 * w]);
            total[2 * v][2 * w + 1] = fmaf(x[v].x, y[w].y, total[2 * v][2 * w + 1]);
            total[2 * v + 1][2 * w] = fmaf(x[v].y, y[w].x, total[2 * v + 1][2 * w]);
            total[2 * v + 1][2 * w + 1] = fmaf(x[v].y, y[w].y, total[2 * v + 1][2 * w + 1]);
          }
      }
#pragma unroll
      for (int v = 0; v < 2 * kPairs; ++v)
#pragma unroll
        for (int w = 0; w < 2 * kPairs; ++w) {
          const int i = i0 + 2 * kSide * (v / 2) + v % 2, j = j0 + 2 * kSide * (w / 2) + w % 2;
          if (i < columns && j < columns) atomicAdd(sum + i * columns + j, total[v][w]);
        }
    }
}

// Calls body(index) for the block's share of [0, n).
template <class Body>
__device__ __forceinline__ void for_block(int n, Body body) {
  for (int e = static_cast<int>(threadIdx.x); e < n; e += kThreads) body(e);
}

}  // namespace
}  // namespace stillpoint::kernels::cuda
