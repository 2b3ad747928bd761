// Products of small matrices by the threads of one block: what kernels are built from that take a
// whole network's step through one block. A thread keeps a tile of rows by columns in registers
// while k runs; operands come from wherever they lie, shared memory or the first-level cache. The
// twin of tile-inl.h; no barrier is made, before or after.
//
// Every element is one chain of fused multiply-adds in the order of k: the same bits whatever the
// number of threads.
#pragma once

#include "kernels/common/launch.h"

namespace stillpoint::kernels::cuda {

// sum over l < k of a[i * a_row + l * a_step] * b[l * b_row + j * b_step]. Matrices of one block
// are small: positions in them are int.
struct TileTerm {
  const float* a;
  int a_row, a_step;
  const float* b;
  int b_row, b_step;
  int k;
};

template <int kRows, int kColumns>
__device__ __forceinline__ void add_term(const TileTerm& term, const int (&rows)[kRows],
                                         const int (&columns)[kColumns],
                                         float (&sum)[kRows][kColumns]) {
  const float *a = term.a, *b = term.b;
  for (int l = 0; l < term.k; ++l, a += term.a_step, b += term.b_row) {
    float from_b[kColumns];
#pragma unroll
    for (int c = 0; c < kColumns; ++c) from_b[c] = b[columns[c] * term.b_step];
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const float from_a = a[rows[r] * term.a_row];
#pragma unroll
      for (int c = 0; c < kColumns; ++c) sum[r][c] = fmaf(from_a, from_b[c], sum[r][c]);
    }
  }
}

// For all i < m and j < n: finish(sum, i, j), where the sum starts as start(i, j) and the terms are
// added to it in their order. Rows and columns past the end repeat the last one, so that the loop
// over k has no branches; they are not finished.
template <int kRows, int kColumns, class Start, class Finish, class... Terms>
__device__ __forceinline__ void block_product(int m, int n, const Start& start,
                                              const Finish& finish, const Terms&... terms) {
  const int across = (n + kColumns - 1) / kColumns;
  const int tiles = (m + kRows - 1) / kRows * across;
  for (int tile = block_thread(); tile < tiles; tile += block_threads()) {
    const int i = tile / across * kRows, j = tile % across * kColumns;
    int rows[kRows], columns[kColumns];
    float sum[kRows][kColumns];
#pragma unroll
    for (int r = 0; r < kRows; ++r) rows[r] = i + r < m ? i + r : m - 1;
#pragma unroll
    for (int c = 0; c < kColumns; ++c) columns[c] = j + c < n ? j + c : n - 1;
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
#pragma unroll
      for (int c = 0; c < kColumns; ++c) sum[r][c] = start(rows[r], columns[c]);
    }
    (add_term(terms, rows, columns, sum), ...);
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
#pragma unroll
      for (int c = 0; c < kColumns; ++c)
        if (i + r < m && j + c < n) finish(sum[r][c], i + r, j + c);
    }
  }
}

}  // namespace stillpoint::kernels::cuda
