// refine on CUDA: a block goes through all steps of one sample after the other. Three arrays of
// nodes x H lie in shared memory (97 KB at H = 96), so that two blocks share a multiprocessor and
// one multiplies while the other waits or sums messages. Weights are packed once a launch and
// stream through shared memory from the second-level cache. The backward keeps the gradients before
// the gates in memory and brings them back one array at a time.
#include "kernels/common/add_parts.cuh"
#include "kernels/common/launch.h"
#include "kernels/elementwise/functions.h"
#include "kernels/refine/block_product.cuh"
#include "kernels/refine/refine.h"

namespace stillpoint::kernels::cuda {
namespace {

// ---- where things lie --------------------------------------------------------------------------

// Floats between rows of an array in shared memory: an odd number of float4.
__host__ __device__ constexpr int64_t shared_row(int64_t channels) {
  return ((channels + 3) & ~int64_t{3}) | 4;
}
// And between those of a packed weight, a multiple of four.
__host__ __device__ constexpr int64_t packed_row(int64_t channels) {
  return (channels + 3) & ~int64_t{3};
}
constexpr int64_t kArrays = 3;  // in shared memory
// Blocks that share a multiprocessor, of 228 KB of shared memory; before compute capability 9.0 of
// 164 or less.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
constexpr int kResident = 1;
#else
constexpr int kResident = 2;
#endif

// Packed weights [H, H] of one product h W^T each, in the order of `dweights`, transposed; then,
// for the backward, as they are.
constexpr int kReceiver = 0, kSender = 1, kState = 2, kMessage = 5, kWeights = 8;

__host__ __device__ constexpr int64_t packed_size(int64_t channels) {
  return kWeights * channels * packed_row(channels);
}

// What a chunk of the backward keeps in memory, an array each: a, then its gradient; c, then its
// gradient; the gradients before the gates, that of the candidate's recurrent part last.
constexpr int kDa = 0, kDc = 1, kDr = 2, kDz = 3, kDn = 4, kDu = 5, kKept = 6;

// ---- one step ----------------------------------------------------------------------------------

// body(k) for the parts of a float4.
template <class Body>
__device__ __forceinline__ void for_parts(Body body) {
#pragma unroll
  for (int q = 0; q < 4; ++q) body(q);
}

// Numbers k to k + 3 of a row of `channels` in memory, zeros past its end. kAligned: every row
// starts on 16 bytes.
template <bool kAligned>
__device__ __forceinline__ float4 load(const float* row, int k, int channels) {
  if (kAligned) return *reinterpret_cast<const float4*>(row + k);
  float4 v = all<float4>(0.f);
  for_parts([&](int q) {
    if (k + q < channels) part(v, q) = row[k + q];
  });
  return v;
}
template <bool kAligned>
__device__ __forceinline__ void store(float* row, int k, int channels, float4 v) {
  if (kAligned) {
    *reinterpret_cast<float4*>(row + k) = v;
    return;
  }
  for_parts([&](int q) {
    if (k + q < channels) row[k + q] = part(v, q);
  });
}
// What comes after the last column stays zero, whatever a product made of infinities: products read
// on to the next multiple of four.
template <bool kAligned>
__device__ __forceinline__ float4 cut(float4 v, int k, int channels) {
  if (!kAligned) {
    for_parts([&](int q) {
      if (k + q >= channels) part(v, q) = 0.f;
    });
  }
  return v;
}

struct Sizes {
  int nodes, channels, row, packed_row, array;  // row: of shared memory

  __device__ explicit Sizes(const RefineSize& s)
      : nodes(static_cast<int>(s.nodes)),
        channels(static_cast<int>(s.channels)),
        row(static_cast<int>(shared_row(s.channels))),
        packed_row(static_cast<int>(kernels::cuda::packed_row(s.channels))),
        array(nodes * row) {}

  __device__ const float* weight(const float* packed, int which) const {
    return packed + which * channels * packed_row;
  }
};

// body(i, k) for every row and every fourth column, neighbouring threads taking neighbours.
template <class Body>
__device__ __forceinline__ void for_quads(const Sizes& z, Body body) {
  const int quads = z.packed_row / 4;
  for_block(z.nodes * quads, [&](int e) {
    const int i = e / quads;
    body(i, 4 * (e - i * quads));
  });
}
__device__ __forceinline__ float4& quad(float* array, const Sizes& z, int i, int k) {
  return *reinterpret_cast<float4*>(array + i * z.row + k);
}

// The state of a sample into shared memory.
template <bool kAligned>
__device__ __forceinline__ void bring(float* to, const float* state, const Sizes& z) {
  for_quads(z, [&](int i, int k) {
    quad(to, z, i, k) = load<kAligned>(state + i * z.channels, k, z.channels);
  });
}

// s from a and c, in the place of a. Between two barriers.
__device__ __forceinline__ void sum_messages(const CsrView& p, const Sizes& z, float* a, float* c) {
  __syncthreads();
  for_quads(z, [&](int i, int k) {
    const float4 own = quad(a, z, i, k);
    float4 sum = all<float4>(0.f);
    const auto end = static_cast<int>(p.offsets[i + 1]);
#pragma unroll 4
    for (int e = static_cast<int>(p.offsets[i]); e < end; ++e)
      sum = add(sum, relu(add(own, quad(c, z, p.indices[e], k))));
    quad(a, z, i, k) = sum;
  });
  __syncthreads();
}

struct Gates {
  float4 r, z, n, u;  // as in refine.h
};

// Calls body(i, k, gates) for every node and every fourth channel.
template <bool kAligned, class Body>
__device__ __forceinline__ void for_gates(Tiles& tiles, const RefineWeights<float>& w,
                                          const float* packed, const Sizes& z, const float* h,
                                          const float* s, const float* x, Body body) {
  for (int row0 = 0; row0 < z.nodes; row0 += kTileRows)
    for (int column0 = 0; column0 < z.channels; column0 += kTileColumns) {
      const auto gates_of = [&](int which, RightTile(&right)[kTiles]) {
#pragma unroll
        for (int gate = 0; gate < kTiles; ++gate)
          right[gate] = {z.weight(packed, which + gate), column0};
      };
      RightTile right[kTiles];
      Sums sums;
      gates_of(kState, right);
      multiply(tiles, h, z.row, right, z.packed_row, row0, z.nodes, z.channels, sums);
      float4 recurrent[kRowsPerThread];  // of the candidate: the reset gate stands before it
#pragma unroll
      for (int r = 0; r < kRowsPerThread; ++r) {
        recurrent[r] = sums.v[2][r];
        sums.v[2][r] = all<float4>(0.f);
      }
      gates_of(kMessage, right);
      multiply(tiles, s, z.row, right, z.packed_row, row0, z.nodes, z.channels, sums);
      for_sums(row0, z.nodes, column0, z.channels, [&](int i, int k, int row) {
        const auto before = [&](int gate) {
          return add(sums.v[gate][row],
                     load<kAligned>(x + (3 * i + gate) * z.channels, k, z.channels));
        };
        const auto bias = [&](int gate) {
          return load<kAligned>(w.state_bias + gate * z.channels, k, z.channels);
        };
        Gates gates{.r = add(before(0), bias(0)),
                    .z = add(before(1), bias(1)),
                    .n = before(2),
                    .u = add(recurrent[row], bias(2))};
        for_parts([&](int q) {
          part(gates.r, q) = scalar::logistic(part(gates.r, q));
          part(gates.z, q) = scalar::logistic(part(gates.z, q));
          part(gates.n, q) = tanhf(fmaf(part(gates.r, q), part(gates.u, q), part(gates.n, q)));
        });
        body(i, k, gates);
      });
    }
}

// ---- forward -----------------------------------------------------------------------------------

template <bool kAligned>
__global__ void __launch_bounds__(kThreads, kAligned ? kResident : 1)
    forward_kernel(RefineArgs<float> args) {
  const Sizes z(args.size);
  const RefineWeights<float>& w = args.weights;
  const float* packed = args.workspace;
  auto& tiles = *dynamic_shared<Tiles>();
  auto* h = reinterpret_cast<float*>(&tiles + 1);
  float* a = h + z.array;
  float* c = a + z.array;
  for_block(static_cast<int>(kArrays) * z.array, [&](int e) { h[e] = 0.f; });
  const int state = z.nodes * z.channels;
  for (int64_t b = blockIdx.x; b < args.size.batch; b += gridDim.x) {
    __syncthreads();  // the last sample's state has been read
    bring<kAligned>(h, args.h + b * state, z);
    for (int64_t t = 0; t < args.size.steps; ++t) {
      const bool all_states = args.states == RefineStates::all;
      float* out = args.out + (all_states ? t * args.size.batch + b : b) * state;
      const bool written = all_states || t + 1 == args.size.steps;
      product(tiles, h, z.row, z.weight(packed, kReceiver), z.packed_row, z.nodes, z.channels,
              z.channels, [&](int i, int k, float4 sum) {
                const float4 bias = load<kAligned>(w.receiver_bias, k, z.channels);
                quad(a, z, i, k) = cut<kAligned>(add(sum, bias), k, z.channels);
              });
      product(
          tiles, h, z.row, z.weight(packed, kSender), z.packed_row, z.nodes, z.channels, z.channels,
          [&](int i, int k, float4 sum) { quad(c, z, i, k) = cut<kAligned>(sum, k, z.channels); });
      sum_messages(args.pattern, z, a, c);
      // c has been read: the next state takes its place.
      for_gates<kAligned>(
          tiles, w, packed, z, h, a, args.x + 3 * b * state, [&](int i, int k, const Gates& gates) {
            const float4 before = quad(h, z, i, k);
            float4 next;
            for_parts([&](int q) {
              const float keep = part(gates.z, q);
              part(next, q) = fmaf(keep, part(before, q), (1.f - keep) * part(gates.n, q));
            });
            quad(c, z, i, k) = cut<kAligned>(next, k, z.channels);
            if (written) store<kAligned>(out + i * z.channels, k, z.channels, next);
          });
      float* before = h;
      h = c;
      c = before;
    }
  }
}

// ---- backward ----------------------------------------------------------------------------------

// A kept array, whose rows are those of shared memory, into shared memory.
__device__ __forceinline__ void bring_kept(float* to, float* kept, const Sizes& z) {
  for_quads(z, [&](int i, int k) { quad(to, z, i, k) = quad(kept, z, i, k); });
}

// da and dc from a, c and ds, which shared memory holds.
__device__ __forceinline__ void messages_backward(const CsrView& p, const CsrView& t,
                                                  const Sizes& z, float* a, float* c, float* ds,
                                                  float* da, float* dc) {
  for_quads(z, [&](int i, int k) {
    const float4 own_a = quad(a, z, i, k), own_c = quad(c, z, i, k);
    float4 active = all<float4>(0.f), sum = all<float4>(0.f);
    const auto end = static_cast<int>(p.offsets[i + 1]);
#pragma unroll 4
    for (int e = static_cast<int>(p.offsets[i]); e < end; ++e) {
      const float4 m = add(own_a, quad(c, z, p.indices[e], k));
      for_parts([&](int q) { part(active, q) += part(m, q) > 0.f ? 1.f : 0.f; });
    }
    const auto end_from = static_cast<int>(t.offsets[i + 1]);
#pragma unroll 4
    for (int e = static_cast<int>(t.offsets[i]); e < end_from; ++e) {
      const int from = t.indices[e];
      const float4 m = add(quad(a, z, from, k), own_c), d = quad(ds, z, from, k);
      for_parts([&](int q) { part(sum, q) += part(m, q) > 0.f ? part(d, q) : 0.f; });
    }
    const float4 own_ds = quad(ds, z, i, k);
    for_parts([&](int q) { part(active, q) *= part(own_ds, q); });
    quad(da, z, i, k) = active;
    quad(dc, z, i, k) = sum;
  });
}

// The sums over nodes of an array in shared memory, added to sum [channels].
__device__ __forceinline__ void add_columns(const float* array, const Sizes& z, float* sum) {
  for_block(z.channels, [&](int k) {
    float total = 0.f;
#pragma unroll 8
    for (int i = 0; i < z.nodes; ++i) total += array[i * z.row + k];
    sum[k] += total;
  });
}

// Arrays in shared memory, used for one thing after the other.
struct Shared {
  Tiles& tiles;
  float *first, *second, *third;
};

// One step of sample b back; `kept` is the chunk's memory, `sum` its weight gradients, or null.
template <bool kAligned>
__device__ void step_backward(const RefineBackwardArgs<float>& args, const float* packed, int64_t b,
                              int t, const Sizes& z, const Shared& shared, float* kept,
                              float* sum) {
  const RefineWeights<float>& w = args.weights;
  const int64_t state = z.nodes * z.channels, at = t * args.size.batch + b;
  const bool last_step = t + 1 == args.size.steps;
  const float* before = t == 0 ? args.h + b * state : args.out + (at - args.size.batch) * state;
  const float* g = args.g + at * state;
  float* dh = args.dh + b * state;
  float* dx = args.dx == nullptr ? nullptr : args.dx + 3 * b * state;
  const auto kept_array = [&](int which) { return kept + which * z.array; };
  // body(i, k, sum) of an array in shared memory times a weight.
  const auto times = [&](const float* array, int which, auto body) {
    product(shared.tiles, array, z.row, z.weight(packed, which), z.packed_row, z.nodes, z.channels,
            z.channels, body);
  };

  // The forward again.
  float *h = shared.first, *a = shared.second, *c = shared.third;
  __syncthreads();  // the step after this one has read its arrays
  bring<kAligned>(h, before, z);
  times(h, kReceiver, [&](int i, int k, float4 v) {
    v = cut<kAligned>(add(v, load<kAligned>(w.receiver_bias, k, z.channels)), k, z.channels);
    quad(a, z, i, k) = quad(kept_array(kDa), z, i, k) = v;
  });
  times(h, kSender, [&](int i, int k, float4 v) {
    quad(c, z, i, k) = quad(kept_array(kDc), z, i, k) = cut<kAligned>(v, k, z.channels);
  });
  sum_messages(args.pattern, z, a, c);
  float* s = a;

  for_gates<kAligned>(shared.tiles, w, packed, z, h, s, args.x + 3 * b * state,
                      [&](int i, int k, const Gates& gates) {
                        quad(kept_array(kDr), z, i, k) = gates.r;
                        quad(kept_array(kDz), z, i, k) = gates.z;
                        quad(kept_array(kDn), z, i, k) = gates.n;
                        quad(kept_array(kDu), z, i, k) = gates.u;
                      });

  // Through the gates, to the gradients before them, to dx and to the part of dh that comes through
  // z. The gates come through memory because the registers of a product's tiles do not suffice.
  __syncthreads();
  for_quads(z, [&](int i, int k) {
    float4 &r = quad(kept_array(kDr), z, i, k), &keep = quad(kept_array(kDz), z, i, k);
    float4 &n = quad(kept_array(kDn), z, i, k), &u = quad(kept_array(kDu), z, i, k);
    const Gates gates{.r = r, .z = keep, .n = n, .u = u};
    const float4 own = quad(h, z, i, k);
    const int row = i * z.channels;
    float4 gradient = load<kAligned>(g + row, k, z.channels);
    if (!last_step) gradient = add(gradient, load<kAligned>(dh + row, k, z.channels));
    float4 dr, dz, dn, du, through;
    for_parts([&](int q) {
      const float at_r = part(gates.r, q), at_z = part(gates.z, q), at_n = part(gates.n, q);
      const float d = part(gradient, q), to_n = d * (1.f - at_z) * fmaf(-at_n, at_n, 1.f);
      part(dn, q) = to_n;
      part(dr, q) = to_n * part(gates.u, q) * (at_r * (1.f - at_r));
      part(dz, q) = d * (part(own, q) - at_n) * (at_z * (1.f - at_z));
      part(du, q) = to_n * at_r;
      part(through, q) = d * at_z;
    });
    r = cut<kAligned>(dr, k, z.channels);
    keep = cut<kAligned>(dz, k, z.channels);
    n = cut<kAligned>(dn, k, z.channels);
    u = cut<kAligned>(du, k, z.channels);
    store<kAligned>(dh + row, k, z.channels, through);
    if (dx == nullptr) return;
    const auto to_x = [&](int gate, float4 v) {
      float* x = dx + 3 * row + gate * z.channels;
      if (!last_step) v = add(v, load<kAligned>(x, k, z.channels));
      store<kAligned>(x, k, z.channels, v);
    };
    to_x(0, dr);
    to_x(1, dz);
    to_x(2, dn);
  });

  // Through the gates' products with s; ds takes the place of c.
  float *d = shared.first, *ds = shared.third;
#pragma unroll 1
  for (int gate = 0; gate < 3; ++gate) {
    __syncthreads();
    bring_kept(d, kept_array(kDr + gate), z);
    __syncthreads();
    const int which = kMessage + gate;
    if (sum != nullptr)
      add_outer(d, s, z.row, z.nodes, z.channels, sum + which * z.channels * z.channels);
    times(d, kWeights + which, [&](int i, int k, float4 v) {
      if (gate > 0) v = add(quad(ds, z, i, k), v);
      quad(ds, z, i, k) = cut<kAligned>(v, k, z.channels);
    });
  }

  // Through the messages.
  __syncthreads();
  bring_kept(shared.first, kept_array(kDa), z);
  bring_kept(shared.second, kept_array(kDc), z);
  __syncthreads();
  messages_backward(args.pattern, args.transposed, z, shared.first, shared.second, ds,
                    kept_array(kDa), kept_array(kDc));

  // Through the products with h; their sum takes the place of ds.
  __syncthreads();
  h = shared.second;
  bring<kAligned>(h, before, z);
  float* through_h = shared.third;
#pragma unroll 1
  for (int which = kReceiver; which < kMessage; ++which) {
    if (which != kReceiver) __syncthreads();
    // Of the candidate, what is before its recurrent part.
    bring_kept(d, kept_array(which + 1 == kMessage ? kDu : which), z);
    __syncthreads();
    if (sum != nullptr) {
      const int square = z.channels * z.channels;
      add_outer(d, h, z.row, z.nodes, z.channels, sum + which * square);
      float* biases = sum + kWeights * square;
      if (which == kReceiver) add_columns(d, z, biases);
      if (which >= kState) add_columns(d, z, biases + (1 + which - kState) * z.channels);
    }
    times(d, kWeights + which, [&](int i, int k, float4 v) {
      if (which != kReceiver) v = add(quad(through_h, z, i, k), v);
      quad(through_h, z, i, k) = v;
      if (which + 1 == kMessage)
        store<kAligned>(dh + i * z.channels, k, z.channels,
                        add(load<kAligned>(dh + i * z.channels, k, z.channels), v));
    });
  }
}
static_assert(kDa == kReceiver && kDc == kSender && kDr == kState);

// A block takes a chunk of samples.
template <bool kAligned>
__global__ void __launch_bounds__(kThreads, kAligned ? kResident : 1)
    backward_kernel(RefineBackwardArgs<float> args, const float* packed, float* chunks,
                    int64_t grain) {
  const Sizes z(args.size);
  const int64_t parameters = refine_parameters(args.size.channels);
  auto& tiles = *dynamic_shared<Tiles>();
  auto* first_array = reinterpret_cast<float*>(&tiles + 1);
  const Shared shared{tiles, first_array, first_array + z.array, first_array + 2 * z.array};
  for_block(static_cast<int>(kArrays) * z.array, [&](int e) { first_array[e] = 0.f; });
  const int64_t chunk = blockIdx.x, first = chunk * grain;
  const int64_t left = args.size.batch - first;
  const auto samples = static_cast<int>(left < grain ? left : grain);
  float* kept = chunks + gridDim.x * parameters + chunk * kKept * z.array;
  float* sum = args.dweights == nullptr ? nullptr : chunks + chunk * parameters;
  if (sum != nullptr) for_block(static_cast<int>(parameters), [&](int e) { sum[e] = 0.f; });
  for (int k = 0; k < samples; ++k)
    for (auto t = static_cast<int>(args.size.steps); t-- > 0;)
      step_backward<kAligned>(args, packed, first + k, t, z, shared, kept, sum);
}

// The weights transposed, with zeros behind every row; `count` above kWeights: then as they are.
__global__ void __launch_bounds__(kThreads)
    pack_kernel(RefineWeights<float> w, int64_t channels, int64_t count, float* packed) {
  const int64_t row = packed_row(channels), square = channels * channels;
  for (int64_t e = global_thread(); e < count * channels * row; e += grid_threads()) {
    const int64_t i = e / row % channels, j = e % row, which = e / (channels * row) % kWeights;
    const float* from = which >= kMessage  ? w.message + (which - kMessage) * square
                        : which >= kState  ? w.state + (which - kState) * square
                        : which == kSender ? w.sender
                                           : w.receiver;
    const bool transposed = e < kWeights * channels * row;
    packed[e] = j >= channels ? 0.f : from[transposed ? j * channels + i : i * channels + j];
  }
}

Status pack(const RefineWeights<float>& w, int64_t channels, int64_t count, float* packed,
            Stream stream) {
  return launch(pack_kernel, blocks_for(count * channels * packed_row(channels), kThreads),
                kThreads, 0, stream, w, channels, count, packed);
}

size_t shared_bytes(int64_t nodes, int64_t channels) {
  return sizeof(Tiles) +
         static_cast<size_t>(kArrays * nodes * shared_row(channels)) * sizeof(float);
}

}  // namespace

bool refine_fits(int64_t nodes, int64_t channels) {
  int device = 0, limit = 0;
  return cudaGetDevice(&device) == cudaSuccess &&
         cudaDeviceGetAttribute(&limit, cudaDevAttrMaxSharedMemoryPerBlockOptin, device) ==
             cudaSuccess &&
         shared_bytes(nodes, channels) <= static_cast<size_t>(limit);
}

int64_t refine_workspace(const RefineSize& s) { return packed_size(s.channels); }

int64_t refine_backward_workspace(const RefineSize& s) {
  return 2 * packed_size(s.channels) +
         refine_chunks(s) *
             (refine_parameters(s.channels) + kKept * s.nodes * shared_row(s.channels));
}

Status refine(const RefineArgs<float>& args, Stream stream) {
  const RefineSize& s = args.size;
  if (s.batch * s.nodes * s.channels == 0) return {};
  const RefineWeights<float>& w = args.weights;
  const Status packed = pack(w, s.channels, kWeights, args.workspace, stream);
  if (!packed.ok()) return packed;
  const bool aligned =
      rows_take_float4(s.channels, args.h, args.x, args.out, w.receiver_bias, w.state_bias);
  return launch(aligned ? forward_kernel<true> : forward_kernel<false>, blocks_for(s.batch, 1),
                kThreads, shared_bytes(s.nodes, s.channels), stream, args);
}

Status refine_backward(const RefineBackwardArgs<float>& args, Stream stream) {
  const RefineSize& s = args.size;
  if (s.channels == 0) return {};
  const RefineWeights<float>& w = args.weights;
  const int64_t parameters = refine_parameters(s.channels);
  const int64_t chunks = s.batch * s.nodes == 0 ? 0 : refine_chunks(s);
  float* sums = args.workspace + 2 * packed_size(s.channels);
  if (chunks > 0) {
    Status status = pack(w, s.channels, 2 * kWeights, args.workspace, stream);
    if (!status.ok()) return status;
    const bool aligned = rows_take_float4(s.channels, args.h, args.x, args.out, args.g, args.dh,
                                          args.dx, w.receiver_bias, w.state_bias);
    status = launch(aligned ? backward_kernel<true> : backward_kernel<false>,
                    static_cast<unsigned>(chunks), kThreads, shared_bytes(s.nodes, s.channels),
                    stream, args, args.workspace, sums, refine_grain(s));
    if (!status.ok() || args.dweights == nullptr) return status;
  }
  if (args.dweights == nullptr) return {};
  return add_parts(sums, chunks, parameters, args.dweights, stream);
}

}  // namespace stillpoint::kernels::cuda
