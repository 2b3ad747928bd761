// topk: the k largest numbers of each row, largest first, and the two moves along a row that its
// gradients are made of, each the transpose of the other.
//
//   topk          values[r,t] = x[r, indices[r,t]], the t-th largest of the row; equals by index
//   topk_gather   out[r,t] = x[r, indices[r,t]]
//   topk_scatter  dx[r, indices[r,t]] = g[r,t], 0 elsewhere
//
// A NaN is greater than everything and equal to any other; -0 is equal to 0. Values are copied, so
// that all backends agree bit for bit, for any thread count and launch. 1 <= k <= n < 2^31. Indices
// that are given lie in [0, n), those of a row all different; they are not checked. Outputs may not
// alias inputs.
//
// Cost: each input and output crosses memory once, 4 bytes an element; topk compares every number
// with the k-th largest so far, and does more with the few that are greater: about k (1 + log(n /
// k)) of a row in random order. CUDA goes along the row once for every 64 of k.
#pragma once

#include <cstdint>

#include "kernels/common/status.h"
#include "kernels/common/stream.h"

namespace stillpoint::kernels {

struct TopkShape {
  int64_t rows, n, k;
};

template <class T>
struct TopkArgs {
  const T* x;          // [rows, n]
  T* values;           // [rows, k]
  int32_t* indices;    // [rows, k]
  int32_t* workspace;  // cpu: [topk_workspace(shape)], aligned to 64 bytes; the others have none
  TopkShape shape;
};

template <class T>
struct TopkGatherArgs {
  const T* x;              // [rows, n]
  const int32_t* indices;  // [rows, k]
  T* out;                  // [rows, k]
  TopkShape shape;
};

template <class T>
struct TopkScatterArgs {
  const T* g;              // [rows, k]
  const int32_t* indices;  // [rows, k]
  T* dx;                   // [rows, n]
  TopkShape shape;
};

namespace cpu {
int64_t topk_workspace(const TopkShape& shape);  // for the threads that there are now
void topk(const TopkArgs<float>& args);
void topk_gather(const TopkGatherArgs<float>& args);
void topk_scatter(const TopkScatterArgs<float>& args);
}  // namespace cpu

namespace cuda {
Status topk(const TopkArgs<float>& args, Stream stream);
Status topk_gather(const TopkGatherArgs<float>& args, Stream stream);
Status topk_scatter(const TopkScatterArgs<float>& args, Stream stream);
}  // namespace cuda

}  // namespace stillpoint::kernels
