// message_sum on CUDA. Eight lanes with four channels each work on a row (32 lanes with one where
// rows are not aligned to 16 bytes): a warp serves four rows, and every load is one stretch of 128
// bytes. In the slab form c lies in shared memory, where those stretches are free of bank
// conflicts. ladder/README.md tells what each step on the way here bought.
#include "kernels/common/float4.cuh"
#include "kernels/common/launch.h"
#include "kernels/message_sum/message_sum.h"

namespace stillpoint::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kSlab = 32;                    // channels of a slab
constexpr int64_t kSharedBytes = 48 * 1024;  // what a block gets without asking
constexpr int64_t kEnoughSlabs = 128;        // about one block for every multiprocessor of an H100

template <class V>
constexpr int kParts = sizeof(V) / sizeof(float);
template <class V>
constexpr int kLanes = kSlab / kParts<V>;  // threads that share a row

template <class V>
__device__ __forceinline__ float& part(V& v, int k) {
  return reinterpret_cast<float*>(&v)[k];
}
template <class V>
__device__ __forceinline__ V load(const float* from) {
  return *reinterpret_cast<const V*>(from);
}
template <class V>
__device__ __forceinline__ void store(V v, float* to) {
  *reinterpret_cast<V*>(to) = v;
}

// max(m, 0) that keeps NaN: one instruction from Ampere on.
__device__ __forceinline__ float relu(float m) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  float y;
  asm("max.NaN.f32 %0, %1, 0f00000000;" : "=f"(y) : "f"(m));
  return y;
#else
  return m < 0.f ? 0.f : m;
#endif
}

// The entries of a row; a fixed degree saves reading the offsets.
struct Row {
  int32_t begin, end;
};
__device__ __forceinline__ Row row_of(const CsrView& p, int64_t i) {
  if (p.degree > 0) {
    const auto begin = static_cast<int32_t>(i) * p.degree;
    return {begin, begin + p.degree};
  }
  return {p.offsets[i], p.offsets[i + 1]};
}

// Where the vectors of other rows come from, the thread's channels within a row being chosen:
// memory,
struct Rows {
  const float* first;
  int64_t stride;

  template <class V>
  __device__ __forceinline__ V at(int32_t row) const {
    return load<V>(first + row * stride);
  }
};
// or a tile in shared memory.
struct Tile {
  const float* first;

  template <class V>
  __device__ __forceinline__ V at(int32_t row) const {
    return load<V>(first + row * kSlab);
  }
};

// ---- one row -----------------------------------------------------------------------------------

template <class V, class From>
__device__ __forceinline__ V sum_messages(V a, From c, const CsrView& p, int64_t i) {
  const Row row = row_of(p, i);
  V sum = all<V>(0.f);
#pragma unroll 4
  for (int32_t e = row.begin; e < row.end; ++e) {
    V cj = c.template at<V>(p.indices[e]);
#pragma unroll
    for (int k = 0; k < kParts<V>; ++k) part(sum, k) += relu(part(a, k) + part(cj, k));
  }
  return sum;
}

template <class V, class From>
__device__ __forceinline__ V gradient_of_a(V a, V g, From c, const CsrView& p, int64_t i) {
  const Row row = row_of(p, i);
  V active = all<V>(0.f);
#pragma unroll 4
  for (int32_t e = row.begin; e < row.end; ++e) {
    V cj = c.template at<V>(p.indices[e]);
#pragma unroll
    for (int k = 0; k < kParts<V>; ++k)
      part(active, k) += part(a, k) + part(cj, k) > 0.f ? 1.f : 0.f;
  }
#pragma unroll
  for (int k = 0; k < kParts<V>; ++k) part(active, k) *= part(g, k);
  return active;
}

template <class V, class From>
__device__ __forceinline__ V gradient_of_c(V c, From a, From g, const CsrView& t, int64_t j) {
  const Row row = row_of(t, j);
  V sum = all<V>(0.f);
#pragma unroll 4
  for (int32_t e = row.begin; e < row.end; ++e) {
    const int32_t i = t.indices[e];
    V ai = a.template at<V>(i), gi = g.template at<V>(i);
#pragma unroll
    for (int k = 0; k < kParts<V>; ++k)
      part(sum, k) += part(ai, k) + part(c, k) > 0.f ? part(gi, k) : 0.f;
  }
  return sum;
}

template <class V, class From>
__device__ __forceinline__ V sum_tangents(V a, V ta, From c, From tc, const CsrView& p, int64_t i) {
  const Row row = row_of(p, i);
  V sum = all<V>(0.f);
#pragma unroll 2
  for (int32_t e = row.begin; e < row.end; ++e) {
    const int32_t j = p.indices[e];
    V cj = c.template at<V>(j), tcj = tc.template at<V>(j);
#pragma unroll
    for (int k = 0; k < kParts<V>; ++k)
      part(sum, k) += part(a, k) + part(cj, k) > 0.f ? part(ta, k) + part(tcj, k) : 0.f;
  }
  return sum;
}

// ---- row form: kLanes threads of the grid per row and slab --------------------------------------

// Calls body(row over all samples, row, sample, channel) for every vector of [batch, rows,
// channels].
template <class V, class Body>
__device__ __forceinline__ void for_rows(int64_t batch, int64_t rows, int64_t channels, Body body) {
  const int64_t slabs = (channels + kSlab - 1) / kSlab;
  const int64_t tasks = batch * rows * slabs;
  const int64_t step = grid_threads() / kLanes<V>;
  const int64_t lane = threadIdx.x % kLanes<V>;
  for (int64_t task = global_thread() / kLanes<V>; task < tasks; task += step) {
    const int64_t r = task / slabs;
    const int64_t k = task % slabs * kSlab + lane * kParts<V>;
    if (k < channels) body(r, r % rows, r / rows, k);
  }
}

template <class V>
__global__ void __launch_bounds__(kThreads) forward_row(MessageSumArgs<float> args) {
  const CsrView p = args.pattern;
  for_rows<V>(args.batch, p.rows, args.channels,
              [&](int64_t r, int64_t i, int64_t sample, int64_t k) {
                const int64_t at = r * args.channels + k;
                const Rows c{args.c + sample * p.cols * args.channels + k, args.channels};
                store(sum_messages(load<V>(args.a + at), c, p, i), args.out + at);
              });
}

template <class V>
__global__ void __launch_bounds__(kThreads) backward_a_row(MessageSumBackwardArgs<float> args) {
  const CsrView p = args.pattern;
  for_rows<V>(args.batch, p.rows, args.channels,
              [&](int64_t r, int64_t i, int64_t sample, int64_t k) {
                const int64_t at = r * args.channels + k;
                const Rows c{args.c + sample * p.cols * args.channels + k, args.channels};
                const V a = load<V>(args.a + at), g = load<V>(args.g + at);
                store(gradient_of_a(a, g, c, p, i), args.da + at);
              });
}

template <class V>
__global__ void __launch_bounds__(kThreads) backward_c_row(MessageSumBackwardArgs<float> args) {
  const CsrView t = args.transposed;
  for_rows<V>(args.batch, t.rows, args.channels,
              [&](int64_t r, int64_t j, int64_t sample, int64_t k) {
                const int64_t at = r * args.channels + k;
                const int64_t first = sample * t.cols * args.channels + k;
                const Rows a{args.a + first, args.channels}, g{args.g + first, args.channels};
                store(gradient_of_c(load<V>(args.c + at), a, g, t, j), args.dc + at);
              });
}

template <class V>
__global__ void __launch_bounds__(kThreads) tangent_row(MessageSumTangentArgs<float> args) {
  const CsrView p = args.pattern;
  for_rows<V>(args.batch, p.rows, args.channels,
              [&](int64_t r, int64_t i, int64_t sample, int64_t k) {
                const int64_t at = r * args.channels + k;
                const int64_t first = sample * p.cols * args.channels + k;
                const Rows c{args.c + first, args.channels}, tc{args.tc + first, args.channels};
                const V a = load<V>(args.a + at), ta = load<V>(args.ta + at);
                store(sum_tangents(a, ta, c, tc, p, i), args.out + at);
              });
}

// ---- slab form: a block per sample and slab -----------------------------------------------------

// The block's slab: `width` channels of one sample, from `channel` on.
struct Slab {
  int64_t sample, channel;
  int width;
};

// Calls body(slab) for the slabs of this block; all threads of the block take part in each.
template <class Body>
__device__ __forceinline__ void for_slabs(int64_t batch, int64_t channels, Body body) {
  const int64_t slabs = (channels + kSlab - 1) / kSlab;
  for (int64_t task = blockIdx.x; task < batch * slabs; task += gridDim.x) {
    const int64_t channel = task % slabs * kSlab;
    const int64_t left = channels - channel;
    __syncthreads();  // the tiles of the slab before have been read
    body(Slab{task / slabs, channel, static_cast<int>(left < kSlab ? left : kSlab)});
  }
}

// Calls body(row, channel in the slab) for the block's threads, kLanes of them on each row.
template <class V, class Body>
__device__ __forceinline__ void for_tile(int64_t rows, int width, Body body) {
  const int k = static_cast<int>(threadIdx.x % kLanes<V>) * kParts<V>;
  if (k < width)
    for (int i = static_cast<int>(threadIdx.x) / kLanes<V>; i < rows; i += kThreads / kLanes<V>)
      body(i, k);
}

// Copies the slab of x [batch, rows, channels] into the tile [rows, kSlab].
template <class V>
__device__ __forceinline__ void fill_tile(const float* x, int64_t rows, int64_t channels,
                                          const Slab& slab, float* tile) {
  const float* from = x + slab.sample * rows * channels + slab.channel;
  for_tile<V>(rows, slab.width,
              [&](int i, int k) { store(load<V>(from + i * channels + k), tile + i * kSlab + k); });
}

template <class V>
__global__ void __launch_bounds__(kThreads) forward_slab(MessageSumArgs<float> args) {
  const CsrView p = args.pattern;
  auto* c = dynamic_shared<float>();
  for_slabs(args.batch, args.channels, [&](const Slab& slab) {
    fill_tile<V>(args.c, p.cols, args.channels, slab, c);
    __syncthreads();
    for_tile<V>(p.rows, slab.width, [&](int i, int k) {
      const int64_t at = (slab.sample * p.rows + i) * args.channels + slab.channel + k;
      store(sum_messages(load<V>(args.a + at), Tile{c + k}, p, i), args.out + at);
    });
  });
}

template <class V>
__global__ void __launch_bounds__(kThreads) backward_slab(MessageSumBackwardArgs<float> args) {
  const CsrView p = args.pattern, t = args.transposed;
  auto* c = dynamic_shared<float>();
  float* a = c + p.cols * kSlab;
  float* g = a + p.rows * kSlab;
  for_slabs(args.batch, args.channels, [&](const Slab& slab) {
    fill_tile<V>(args.c, p.cols, args.channels, slab, c);
    fill_tile<V>(args.a, p.rows, args.channels, slab, a);
    fill_tile<V>(args.g, p.rows, args.channels, slab, g);
    __syncthreads();
    for_tile<V>(p.rows, slab.width, [&](int i, int k) {
      const int64_t at = (slab.sample * p.rows + i) * args.channels + slab.channel + k;
      const V ai = load<V>(a + i * kSlab + k), gi = load<V>(g + i * kSlab + k);
      store(gradient_of_a(ai, gi, Tile{c + k}, p, i), args.da + at);
    });
    for_tile<V>(t.rows, slab.width, [&](int j, int k) {
      const int64_t at = (slab.sample * t.rows + j) * args.channels + slab.channel + k;
      const V cj = load<V>(c + j * kSlab + k);
      store(gradient_of_c(cj, Tile{a + k}, Tile{g + k}, t, j), args.dc + at);
    });
  });
}

template <class V>
__global__ void __launch_bounds__(kThreads) tangent_slab(MessageSumTangentArgs<float> args) {
  const CsrView p = args.pattern;
  auto* c = dynamic_shared<float>();
  float* tc = c + p.cols * kSlab;
  for_slabs(args.batch, args.channels, [&](const Slab& slab) {
    fill_tile<V>(args.c, p.cols, args.channels, slab, c);
    fill_tile<V>(args.tc, p.cols, args.channels, slab, tc);
    __syncthreads();
    for_tile<V>(p.rows, slab.width, [&](int i, int k) {
      const int64_t at = (slab.sample * p.rows + i) * args.channels + slab.channel + k;
      const V ai = load<V>(args.a + at), tai = load<V>(args.ta + at);
      store(sum_tangents(ai, tai, Tile{c + k}, Tile{tc + k}, p, i), args.out + at);
    });
  });
}

// ---- launching ---------------------------------------------------------------------------------

template <class Args>
int64_t slabs_of(const Args& args) {
  return args.batch * ((args.channels + kSlab - 1) / kSlab);
}

// The documented rule (message_sum.h), for a tile of `rows` rows.
template <class Args>
bool takes_slab(const Args& args, int64_t tile_bytes) {
  if (args.form != MessageSumForm::automatic) return args.form == MessageSumForm::slab;
  return tile_bytes <= kSharedBytes && slabs_of(args) >= kEnoughSlabs;
}

int64_t tile_bytes(int64_t rows) { return rows * kSlab * static_cast<int64_t>(sizeof(float)); }

template <class Args>
Status launch_slab(void (*kernel)(Args), const Args& args, int64_t shared_bytes, Stream stream) {
  return launch(kernel, blocks_for(slabs_of(args), 1), kThreads, static_cast<size_t>(shared_bytes),
                stream, args);
}

template <class V, class Args>
Status launch_row(void (*kernel)(Args), const Args& args, int64_t rows, Stream stream) {
  if (rows == 0) return {};
  return launch(kernel, blocks_for(slabs_of(args) * rows * kLanes<V>, kThreads), kThreads, 0,
                stream, args);
}

template <class V>
Status forward(const MessageSumArgs<float>& args, Stream stream) {
  const int64_t bytes = tile_bytes(args.pattern.cols);
  if (takes_slab(args, bytes)) return launch_slab(forward_slab<V>, args, bytes, stream);
  return launch_row<V>(forward_row<V>, args, args.pattern.rows, stream);
}

template <class V>
Status backward(const MessageSumBackwardArgs<float>& args, Stream stream) {
  const int64_t bytes = tile_bytes(args.pattern.cols + 2 * args.pattern.rows);
  if (takes_slab(args, bytes)) return launch_slab(backward_slab<V>, args, bytes, stream);
  const Status status = launch_row<V>(backward_a_row<V>, args, args.pattern.rows, stream);
  if (!status.ok()) return status;
  return launch_row<V>(backward_c_row<V>, args, args.transposed.rows, stream);
}

template <class V>
Status tangent(const MessageSumTangentArgs<float>& args, Stream stream) {
  const int64_t bytes = tile_bytes(2 * args.pattern.cols);
  if (takes_slab(args, bytes)) return launch_slab(tangent_slab<V>, args, bytes, stream);
  return launch_row<V>(tangent_row<V>, args, args.pattern.rows, stream);
}

}  // namespace

Status message_sum(const MessageSumArgs<float>& args, Stream stream) {
  if (args.batch * args.channels * args.pattern.rows == 0) return {};
  return rows_take_float4(args.channels, args.a, args.c, args.out) ? forward<float4>(args, stream)
                                                                   : forward<float>(args, stream);
}

Status message_sum_backward(const MessageSumBackwardArgs<float>& args, Stream stream) {
  if (args.batch * args.channels == 0) return {};
  return rows_take_float4(args.channels, args.a, args.c, args.g, args.da, args.dc)
             ? backward<float4>(args, stream)
             : backward<float>(args, stream);
}

Status message_sum_tangent(const MessageSumTangentArgs<float>& args, Stream stream) {
  if (args.batch * args.channels * args.pattern.rows == 0) return {};
  return rows_take_float4(args.channels, args.a, args.c, args.ta, args.tc, args.out)
             ? tangent<float4>(args, stream)
             : tangent<float>(args, stream);
}

}  // namespace stillpoint::kernels::cuda
