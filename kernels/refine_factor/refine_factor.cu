// refine_factor on CUDA: one launch for all refinements, a block takes one board after the other
// through them. What a board needs lies in the workspace, 1 MB for 9x9 and C = 32, which the
// second-level cache holds for all blocks that run; products keep their sums in registers and
// finish them there.
#include "kernels/common/reduce.cuh"
#include "kernels/gemm/tile.cuh"
#include "kernels/refine_factor/refine_factor.h"

namespace stillpoint::kernels::cuda {
namespace {

constexpr int kThreads = 256;
// Blocks, each with scratch of its own and, in the backward, with its own sum of gradients: so many
// that a GPU of today is busy.
constexpr int64_t kMostBlocks = 128;

int64_t blocks_of(const RefineFactorSizes& z) {
  return z.boards < kMostBlocks ? z.boards : kMostBlocks;
}

// Scratch memory of one block.
struct Scratch {
  float *m, *s, *p, *at_factors, *u, *even, *odd;  // both directions; forward
  float *dh, *dm, *dp, *ds;                        // backward

  __host__ __device__ Scratch(float* at, const RefineFactorSizes& z) {
    const int64_t state = z.nodes * z.channels, factors = z.factors() * z.channels;
    m = at;
    s = m + state;
    p = s + factors;
    at_factors = p + factors;
    u = at_factors + z.factors() * z.hidden;  // or du
    even = u + z.nodes * z.hidden;
    odd = even + state;
    dh = even;
    dm = odd;
    dp = odd + state;
    ds = dp + factors;
  }
  __host__ __device__ static int64_t size(const RefineFactorSizes& z) {
    return 3 * z.nodes * z.channels + z.nodes * z.hidden + 4 * z.factors() * z.channels +
           z.factors() * z.hidden;
  }
};

__device__ __forceinline__ float relu(float x) { return x < 0.f ? 0.f : x; }  // keeps NaN
__device__ __forceinline__ float masked(float g, float y) { return y > 0.f ? g : 0.f; }

struct Zero {
  __device__ float operator()(int, int) const { return 0.f; }
};
struct Store {
  float* data;
  int row;
  __device__ void operator()(float v, int i, int j) const { data[i * row + j] = v; }
};
struct StoreRelu {
  float* data;
  int row;
  __device__ void operator()(float v, int i, int j) const { data[i * row + j] = relu(v); }
};
struct StoreMasked {
  float* data;
  const float* y;
  int row;
  __device__ void operator()(float v, int i, int j) const {
    data[i * row + j] = masked(v, y[i * row + j]);
  }
};

// x [.., k] times the transpose of w [.., k], whose rows start ldw apart.
__device__ __forceinline__ TileTerm forward_term(const float* x, int k, const float* w, int ldw) {
  return {.a = x, .a_row = k, .a_step = 1, .b = w, .b_row = 1, .b_step = ldw, .k = k};
}
// dy [.., k] times w [k, ..].
__device__ __forceinline__ TileTerm gradient_term(const float* dy, int k, const float* w, int ldw) {
  return {.a = dy, .a_row = k, .a_step = 1, .b = w, .b_row = ldw, .b_step = 1, .k = k};
}

template <class Start, class Finish, class... Terms>
__device__ __forceinline__ void product(int m, int n, const Start& start, const Finish& finish,
                                        const Terms&... terms) {
  block_product<8, 4>(m, n, start, finish, terms...);
}

// dw [out, in] += dy^T x over some rows; rows of dw start `row` apart. Tiles are small so that
// every thread has one.
__device__ __forceinline__ void add_weight_gradient(float* dw, int row, const float* dy, int out,
                                                    const float* x, int in, int rows) {
  block_product<2, 4>(
      out, in, [=](int i, int j) { return dw[i * row + j]; }, Store{dw, row},
      TileTerm{.a = dy, .a_row = 1, .a_step = out, .b = x, .b_row = in, .b_step = 1, .k = rows});
}

// sum [n] += the rows of x.
__device__ __forceinline__ void add_rows(float* sum, const float* x, int n, int rows) {
  for (int k = block_thread(); k < n; k += block_threads()) {
    float total = sum[k];
    for (int i = 0; i < rows; ++i) total += x[i * n + k];
    sum[k] = total;
  }
}

__device__ __forceinline__ float gathered(const CsrView& pattern, int row, const float* x, int n,
                                          int k) {
  float sum = 0.f;
  for (int32_t e = pattern.offsets[row]; e < pattern.offsets[row + 1]; ++e)
    sum += x[pattern.indices[e] * n + k];
  return sum;
}
__device__ __forceinline__ void gather(const CsrView& pattern, const float* x, int n, float* out) {
  for (int k = block_thread(); k < static_cast<int>(pattern.rows) * n; k += block_threads())
    out[k] = gathered(pattern, k / n, x, n, k % n);
}

// body(i, lane) with a warp for every row.
template <class Body>
__device__ __forceinline__ void for_rows(int rows, const Body& body) {
  const int lane = block_thread() % kWarpSize;
  for (int i = block_thread() / kWarpSize; i < rows; i += block_threads() / kWarpSize)
    body(i, lane);
}

// body(t, first factor, number of factors) for every type.
template <class Body>
__device__ __forceinline__ void for_types(const FactorTypes& types, const Body& body) {
#pragma unroll
  for (int t = 0; t < FactorTypes::kMost; ++t)
    if (t < types.count) body(t, types.first[t], types.first[t + 1] - types.first[t]);
}

// m, s and p of the states h, which the threads wrote before a barrier.
__device__ void messages(const RefineFactorSizes& z, const RefineFactorParameters<const float*>& w,
                         const CsrView& members, const Scratch& scratch, const float* h) {
  const int nodes = static_cast<int>(z.nodes), c = static_cast<int>(z.channels);
  product(
      nodes, c, [=](int, int j) { return w.message_bias[j]; }, StoreRelu{scratch.m, c},
      forward_term(h, c, w.message, c));
  __syncthreads();
  gather(members, scratch.m, c, scratch.s);
  __syncthreads();
  for_types(z.types, [&](int t, int first, int rows) {
    const float* bias = w.factor_bias + t * c;
    product(
        rows, c, [=](int, int j) { return bias[j]; }, StoreRelu{scratch.p + first * c, c},
        forward_term(scratch.s + first * c, c, w.factor + t * c * c, c));
  });
  __syncthreads();
}

__global__ void __launch_bounds__(kThreads) forward_kernel(RefineFactorArgs<float> args) {
  const RefineFactorSizes& z = args.sizes;
  const RefineFactorParameters<const float*>& w = args.parameters;
  const int nodes = static_cast<int>(z.nodes), c = static_cast<int>(z.channels);
  const int n = static_cast<int>(z.hidden), state = nodes * c;
  const bool keep = args.u != nullptr;
  const Scratch scratch(args.workspace + blockIdx.x * Scratch::size(z), z);
  for (int64_t b = blockIdx.x; b < z.boards; b += gridDim.x) {
    const int32_t* clues = args.clues + b * z.nodes;
    const float* h = args.h + b * state;
    for (int64_t t = 0; t < z.steps; ++t) {
      const int64_t at = t * z.boards + b;
      float* next = keep               ? args.states + at * state
                    : t + 1 == z.steps ? args.states + b * state
                    : t % 2 == 0       ? scratch.even
                                       : scratch.odd;
      float* u = keep ? args.u + at * z.nodes * n : scratch.u;
      messages(z, w, args.members, scratch, h);
      for_types(z.types, [&](int type, int first, int rows) {
        product(rows, n, Zero{}, Store{scratch.at_factors + first * n, n},
                forward_term(scratch.p + first * c, c, w.collect + type * c, z.types.count * c));
      });
      __syncthreads();
      product(
          nodes, n,
          [&](int i, int j) {
            const int32_t kind = clues[i];
            const float clue = kind >= 0 && kind < z.kinds ? w.clue[kind * n + j] : NAN;
            return clue + gathered(args.factors, i, scratch.at_factors, n, j);
          },
          StoreRelu{u, n}, forward_term(h, c, w.own, 2 * c),
          forward_term(scratch.m, c, w.own + c, 2 * c));
      __syncthreads();
      product(
          nodes, c, [=](int i, int j) { return w.update_bias[j] + h[i * c + j]; }, Store{next, c},
          forward_term(u, n, w.update, n));
      __syncthreads();
      for_rows(nodes, [&](int i, int lane) {
        float* y = next + i * c;
        float squares = 0.f;
        for (int k = lane; k < c; k += kWarpSize) squares = fmaf(y[k], y[k], squares);
        const float mean = warp_sum(squares) / static_cast<float>(c);
        const float r = 1.f / sqrtf(mean + static_cast<float>(z.epsilon));
        for (int k = lane; k < c; k += kWarpSize) y[k] *= r;
        if (keep && lane == 0) args.r[at * z.nodes + i] = r;
      });
      __syncthreads();
      h = next;
    }
  }
}

__global__ void __launch_bounds__(kThreads)
    backward_kernel(RefineFactorBackwardArgs<float> args, float* partials, int64_t count) {
  const RefineFactorSizes& z = args.sizes;
  const RefineFactorParameters<const float*>& w = args.parameters;
  const int nodes = static_cast<int>(z.nodes), c = static_cast<int>(z.channels);
  const int n = static_cast<int>(z.hidden), state = nodes * c;
  const Scratch scratch(args.workspace + blockIdx.x * Scratch::size(z), z);
  float *dh = scratch.dh, *du = scratch.u, *dm = scratch.dm;
  float* mine = partials + blockIdx.x * count;
  const RefineFactorParameters<float*> d = split_parameters(mine, z);
  const bool wanted = args.dparameters != nullptr;
  if (wanted)
    for (int64_t k = block_thread(); k < count; k += block_threads()) mine[k] = 0.f;
  for (int64_t b = blockIdx.x; b < z.boards; b += gridDim.x) {
    const int32_t* clues = args.clues + b * z.nodes;
    for (int k = block_thread(); k < state; k += block_threads()) dh[k] = 0.f;
    __syncthreads();
    for (int64_t t = z.steps; t-- > 0;) {
      const int64_t at = t * z.boards + b;
      const float* h = t == 0 ? args.h + b * state : args.states + (at - z.boards) * state;
      const float* u = args.u + at * z.nodes * n;
      // From dh, which gets g added, to dy in its place: h' = r y and so y = h' / r.
      for_rows(nodes, [&](int i, int lane) {
        const float* out = args.states + at * state + i * c;
        const float* g = args.g + at * state + i * c;
        float* dy = dh + i * c;
        float dot = 0.f;
        for (int k = lane; k < c; k += kWarpSize) {
          dy[k] += g[k];
          dot = fmaf(dy[k], out[k], dot);
        }
        const float mean = warp_sum(dot) / static_cast<float>(c), r = args.r[at * z.nodes + i];
        for (int k = lane; k < c; k += kWarpSize) dy[k] = r * fmaf(-out[k], mean, dy[k]);
      });
      __syncthreads();
      product(nodes, n, Zero{}, StoreMasked{du, u, n}, gradient_term(dh, c, w.update, n));
      if (wanted) {
        add_weight_gradient(d.update, n, dh, c, u, n, nodes);
        add_rows(d.update_bias, dh, c, nodes);
      }
      messages(z, w, args.members, scratch, h);  // with barriers between
      const int clue_gradients = wanted ? static_cast<int>(z.kinds) * n : 0;
      for (int k = block_thread(); k < clue_gradients; k += block_threads()) {
        float total = d.clue[k];
        for (int i = 0; i < nodes; ++i)
          if (clues[i] == k / n) total += du[i * n + k % n];
        d.clue[k] = total;
      }

      gather(args.members, du, n, scratch.at_factors);
      __syncthreads();
      for_types(z.types, [&](int type, int first, int rows) {
        const int row = z.types.count * c;
        const float *dv = scratch.at_factors + first * n, *p = scratch.p + first * c;
        if (wanted) add_weight_gradient(d.collect + type * c, row, dv, n, p, c, rows);
        product(rows, c, Zero{}, StoreMasked{scratch.dp + first * c, p, c},
                gradient_term(dv, n, w.collect + type * c, row));
      });
      __syncthreads();
      for_types(z.types, [&](int type, int first, int rows) {
        const float* dp = scratch.dp + first * c;
        if (wanted) {
          add_weight_gradient(d.factor + type * c * c, c, dp, c, scratch.s + first * c, c, rows);
          add_rows(d.factor_bias + type * c, dp, c, rows);
        }
        product(rows, c, Zero{}, Store{scratch.ds + first * c, c},
                gradient_term(dp, c, w.factor + type * c * c, c));
      });
      __syncthreads();
      product(
          nodes, c, [&](int i, int j) { return gathered(args.factors, i, scratch.ds, c, j); },
          StoreMasked{dm, scratch.m, c}, gradient_term(du, n, w.own + c, 2 * c));
      if (wanted) {
        add_weight_gradient(d.own, 2 * c, du, n, h, c, nodes);
        add_weight_gradient(d.own + c, 2 * c, du, n, scratch.m, c, nodes);
      }
      __syncthreads();
      if (wanted) {
        add_weight_gradient(d.message, c, dm, c, h, c, nodes);
        add_rows(d.message_bias, dm, c, nodes);
      }
      product(
          nodes, c, [=](int i, int j) { return dh[i * c + j]; }, Store{dh, c},
          gradient_term(du, n, w.own, 2 * c), gradient_term(dm, c, w.message, c));
      __syncthreads();
    }
    for (int k = block_thread(); k < state; k += block_threads()) args.dh[b * state + k] = dh[k];
    __syncthreads();  // the next board begins with another dh
  }
}

// The blocks' sums, added in their order.
__global__ void __launch_bounds__(kThreads)
    add_partials_kernel(const float* partials, int64_t blocks, float* sum, int64_t count) {
  for (int64_t k = global_thread(); k < count; k += grid_threads()) {
    float total = 0.f;
    for (int64_t b = 0; b < blocks; ++b) total += partials[b * count + k];
    sum[k] = total;
  }
}

}  // namespace

int64_t refine_factor_workspace(const RefineFactorSizes& z) {
  return blocks_of(z) * Scratch::size(z);
}

int64_t refine_factor_backward_workspace(const RefineFactorSizes& z) {
  return blocks_of(z) * (Scratch::size(z) + parameter_count(z));
}

Status refine_factor(const RefineFactorArgs<float>& args, Stream stream) {
  if (args.sizes.boards * args.sizes.nodes * args.sizes.channels == 0) return {};
  return launch(forward_kernel, static_cast<unsigned>(blocks_of(args.sizes)), kThreads, 0, stream,
                args);
}

Status refine_factor_backward(const RefineFactorBackwardArgs<float>& args, Stream stream) {
  const RefineFactorSizes& z = args.sizes;
  const int64_t blocks = blocks_of(z), count = parameter_count(z);
  if (count == 0) return {};
  float* partials = args.workspace + blocks * Scratch::size(z);
  if (blocks > 0) {
    const Status status = launch(backward_kernel, static_cast<unsigned>(blocks), kThreads, 0,
                                 stream, args, partials, count);
    if (!status.ok()) return status;
  }
  if (args.dparameters == nullptr) return {};
  return launch(add_partials_kernel, blocks_for(count, kThreads), kThreads, 0, stream, partials,
                blocks, args.dparameters, count);
}

}  // namespace stillpoint::kernels::cuda
