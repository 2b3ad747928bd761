// refine on CUDA: a block goes through all steps of one sample after the other. The state and what
// the step makes of it lie in shared memory; weights stream through it in tiles, from the second
// level cache, which they never leave.
#include "kernels/common/launch.h"
#include "kernels/elementwise/functions.h"
#include "kernels/refine/block_product.cuh"
#include "kernels/refine/refine.h"

namespace stillpoint::kernels::cuda {
namespace {

// ---- one step ----------------------------------------------------------------------------------

// max(m, 0) that keeps NaN.
__device__ __forceinline__ float relu(float m) { return m < 0.f ? 0.f : m; }

// a and c [nodes, H] from h, all in shared memory.
__device__ __forceinline__ void receive_and_send(Tiles& tiles, const RefineWeights<float>& w,
                                                 int nodes, int channels, const float* h, float* a,
                                                 float* c) {
  const Matrix right[] = {transposed(w.receiver, channels), transposed(w.sender, channels)};
  for_places(nodes, channels, [&](Place place) {
    Sums<2> sums;
    multiply(tiles, plain(h, channels), right, place, nodes, channels, channels, sums);
    for_tile(place, nodes, channels, [&](int i, int k, int r, int q) {
      a[i * channels + k] = part(sums.v[0][r], q) + w.receiver_bias[k];
      c[i * channels + k] = part(sums.v[1][r], q);
    });
  });
}

// s from a and c; `s` may be `a`. Between two barriers.
__device__ __forceinline__ void sum_messages(const CsrView& p, int channels, const float* a,
                                             const float* c, float* s) {
  __syncthreads();
  for_block(static_cast<int>(p.rows) * channels, [&](int at) {
    const int i = at / channels, k = at - i * channels;
    const float own = a[at];
    float sum = 0.f;
    for (int32_t e = p.offsets[i]; e < p.offsets[i + 1]; ++e)
      sum += relu(own + c[p.indices[e] * channels + k]);
    s[at] = sum;
  });
  __syncthreads();
}

struct Gates {
  float r, z, n, u;  // as in refine.h
};

// Calls body(i, k, gates) for every node and channel.
template <class Body>
__device__ __forceinline__ void for_gates(Tiles& tiles, const RefineWeights<float>& w, int nodes,
                                          int channels, const float* h, const float* s,
                                          const float* x, Body body) {
  const auto of_gate = [&](const float* weight, int gate) {
    return transposed(weight + gate * channels * channels, channels);
  };
  const Matrix from_h[] = {of_gate(w.state, 0), of_gate(w.state, 1), of_gate(w.state, 2)};
  const Matrix from_s[] = {of_gate(w.message, 0), of_gate(w.message, 1), of_gate(w.message, 2)};
  for_places(nodes, channels, [&](Place place) {
    Sums<3> sums;
    multiply(tiles, plain(h, channels), from_h, place, nodes, channels, channels, sums);
    float4 recurrent[kRowsPerThread];  // of the candidate: the reset gate stands before it
#pragma unroll
    for (int r = 0; r < kRowsPerThread; ++r) {
      recurrent[r] = sums.v[2][r];
      sums.v[2][r] = all<float4>(0.f);
    }
    multiply(tiles, plain(s, channels), from_s, place, nodes, channels, channels, sums);
    for_tile(place, nodes, channels, [&](int i, int k, int row, int q) {
      const auto before = [&](int gate) {
        return part(sums.v[gate][row], q) + x[(3 * i + gate) * channels + k];
      };
      const float* bias = w.state_bias + k;
      const float r = scalar::logistic(before(0) + bias[0]);
      const float z = scalar::logistic(before(1) + bias[channels]);
      const float u = part(recurrent[row], q) + bias[2 * channels];
      body(i, k, Gates{r, z, tanhf(fmaf(r, u, before(2))), u});
    });
  });
}

// ---- forward -----------------------------------------------------------------------------------

// One block a multiprocessor is what shared memory has room for: it may have all registers.
__global__ void __launch_bounds__(kThreads, 1) forward_kernel(RefineArgs<float> args) {
  const auto nodes = static_cast<int>(args.size.nodes);
  const auto channels = static_cast<int>(args.size.channels);
  const int state = nodes * channels;
  auto& tiles = *dynamic_shared<Tiles>();
  auto* h = reinterpret_cast<float*>(&tiles + 1);
  float* a = h + state;
  float* c = a + state;
  for (int64_t b = blockIdx.x; b < args.size.batch; b += gridDim.x) {
    __syncthreads();  // the last sample's state has been read
    for_block(state, [&](int e) { h[e] = args.h[b * state + e]; });
    for (int64_t t = 0; t < args.size.steps; ++t) {
      const bool all_states = args.states == RefineStates::all;
      float* out = args.out + (all_states ? t * args.size.batch + b : b) * state;
      const bool written = all_states || t + 1 == args.size.steps;
      receive_and_send(tiles, args.weights, nodes, channels, h, a, c);
      sum_messages(args.pattern, channels, a, c, a);
      // c has been read: the next state takes its place.
      for_gates(tiles, args.weights, nodes, channels, h, a, args.x + 3 * b * state,
                [&](int i, int k, const Gates& gate) {
                  const int at = i * channels + k;
                  const float next = fmaf(gate.z, h[at], (1.f - gate.z) * gate.n);
                  c[at] = next;
                  if (written) out[at] = next;
                });
      float* before = h;
      h = c;
      c = before;
    }
  }
}

// ---- backward ----------------------------------------------------------------------------------

// Columns of the gradients before the gates, a row a node, in units of H: those of h's products,
// then those of s's.
constexpr int kDa = 0, kDc = 1, kDr = 2, kDz = 3, kDu = 4, kDxGates = 5, kGradients = 8;
static_assert(kGradients <= kRefineBackwardScratch);

// sum [columns, H] += d^T input, d pointing at the first of its columns.
__device__ __forceinline__ void add_outer(Tiles& tiles, const float* d, int columns,
                                          const float* input, int nodes, int channels, float* sum) {
  const Matrix right[] = {plain(input, channels)};
  for_places(columns, channels, [&](Place place) {
    Sums<1> sums;
    multiply(tiles, transposed(d, kGradients * channels), right, place, columns, nodes, channels,
             sums);
    for_tile(place, columns, channels,
             [&](int i, int k, int r, int q) { sum[i * channels + k] += part(sums.v[0][r], q); });
  });
}

// From the gates, which d holds in place of their gradients, and dh, the gradient of the step's
// result (with g, which is all of it after the last step), to the gradients before the gates and to
// the part of h's that comes through z; adds up that of x, if it is wanted. The gates come through
// memory because the registers of a product's tile do not suffice for all this. Between two
// barriers.
__device__ __forceinline__ void gates_backward(int channels, int state, const float* h,
                                               const float* g, bool last_step, float* d, float* dh,
                                               float* dx) {
  __syncthreads();
  for_block(state, [&](int at) {
    const int i = at / channels, k = at - i * channels;
    float* row = d + i * kGradients * channels + k;
    const float r = row[kDr * channels], z = row[kDz * channels];
    const float u = row[kDu * channels], n = row[kDxGates * channels];
    const float gradient = last_step ? g[at] : g[at] + dh[at];
    const float dn = gradient * (1.f - z) * fmaf(-n, n, 1.f);
    const float dr = dn * u * (r * (1.f - r));
    const float dz = gradient * (h[at] - n) * (z * (1.f - z));
    row[kDr * channels] = dr;
    row[kDz * channels] = dz;
    row[kDu * channels] = dn * r;
    const float to_x[] = {dr, dz, dn};
#pragma unroll
    for (int gate = 0; gate < 3; ++gate) {
      row[(kDxGates + gate) * channels] = to_x[gate];
      if (dx == nullptr) continue;
      float& sum = dx[(3 * i + gate) * channels + k];
      sum = last_step ? to_x[gate] : sum + to_x[gate];
    }
    dh[at] = gradient * z;
  });
  __syncthreads();
}

// da and dc into the first columns of d, from ds. Between two barriers.
__device__ __forceinline__ void messages_backward(const CsrView& p, const CsrView& t, int channels,
                                                  const float* a, const float* c, const float* ds,
                                                  float* d) {
  __syncthreads();
  for_block(static_cast<int>(p.rows) * channels, [&](int at) {
    const int i = at / channels, k = at - i * channels;
    float active = 0.f, sum = 0.f;
    for (int32_t e = p.offsets[i]; e < p.offsets[i + 1]; ++e)
      active += a[at] + c[p.indices[e] * channels + k] > 0.f ? 1.f : 0.f;
    for (int32_t e = t.offsets[i]; e < t.offsets[i + 1]; ++e) {
      const int from = t.indices[e] * channels + k;
      sum += a[from] + c[at] > 0.f ? ds[from] : 0.f;
    }
    float* row = d + i * kGradients * channels + k;
    row[kDa * channels] = active * ds[at];
    row[kDc * channels] = sum;
  });
  __syncthreads();
}

// One step of sample b back: shared memory holds h, a, c and s, in turn ds; d are the gradients
// before the gates, in memory; `sum` the chunk's weight gradients, or null.
__device__ void step_backward(const RefineBackwardArgs<float>& args, int64_t b, int64_t t,
                              Tiles& tiles, float* h, float* d, float* sum) {
  const auto nodes = static_cast<int>(args.size.nodes);
  const auto channels = static_cast<int>(args.size.channels);
  const int state = nodes * channels;
  const RefineWeights<float>& w = args.weights;
  float* a = h + state;
  float* c = a + state;
  float* s = c + state;
  const float* before =
      t == 0 ? args.h + b * state : args.out + ((t - 1) * args.size.batch + b) * state;
  const float* g = args.g + (t * args.size.batch + b) * state;
  float* dh = args.dh + b * state;

  __syncthreads();  // the step after this one has read its h
  for_block(state, [&](int e) { h[e] = before[e]; });
  receive_and_send(tiles, w, nodes, channels, h, a, c);
  sum_messages(args.pattern, channels, a, c, s);
  for_gates(tiles, w, nodes, channels, h, s, args.x + 3 * b * state,
            [&](int i, int k, const Gates& gate) {
              float* row = d + i * kGradients * channels + k;
              row[kDr * channels] = gate.r;
              row[kDz * channels] = gate.z;
              row[kDu * channels] = gate.u;
              row[kDxGates * channels] = gate.n;
            });
  gates_backward(channels, state, h, g, t + 1 == args.size.steps, d, args.dh + b * state,
                 args.dx == nullptr ? nullptr : args.dx + 3 * b * state);
  const Matrix before_s = plain(d + kDxGates * channels, kGradients * channels);
  if (sum != nullptr)
    add_outer(tiles, before_s.first, 3 * channels, s, nodes, channels,
              sum + 5 * channels * channels);
  const Matrix message[] = {plain(w.message, channels)};
  for_places(nodes, channels, [&](Place place) {
    Sums<1> sums;
    multiply(tiles, before_s, message, place, nodes, 3 * channels, channels, sums);
    for_tile(place, nodes, channels,
             [&](int i, int k, int r, int q) { s[i * channels + k] = part(sums.v[0][r], q); });
  });
  messages_backward(args.pattern, args.transposed, channels, a, c, s, d);
  const auto columns = [&](int first_column) {
    return plain(d + first_column * channels, kGradients * channels);
  };
  const Matrix receiver[] = {plain(w.receiver, channels)}, sender[] = {plain(w.sender, channels)};
  const Matrix gates[] = {plain(w.state, channels)};
  for_places(nodes, channels, [&](Place place) {
    Sums<1> sums;
    multiply(tiles, columns(kDa), receiver, place, nodes, channels, channels, sums);
    multiply(tiles, columns(kDc), sender, place, nodes, channels, channels, sums);
    multiply(tiles, columns(kDr), gates, place, nodes, 3 * channels, channels, sums);
    for_tile(place, nodes, channels,
             [&](int i, int k, int r, int q) { dh[i * channels + k] += part(sums.v[0][r], q); });
  });
  if (sum == nullptr) return;
  add_outer(tiles, d, 5 * channels, h, nodes, channels, sum);
  for_block(4 * channels, [&](int e) {
    const float* column = d + (e < channels ? kDa * channels + e : kDr * channels + e - channels);
    float total = 0.f;
    for (int i = 0; i < nodes; ++i) total += column[i * kGradients * channels];
    sum[8 * channels * channels + e] += total;
  });
}

// A block takes a chunk of samples.
__global__ void __launch_bounds__(kThreads, 1)
    backward_kernel(RefineBackwardArgs<float> args, int64_t grain) {
  const int64_t state = args.size.nodes * args.size.channels;
  const int64_t parameters = refine_parameters(args.size.channels);
  auto& tiles = *dynamic_shared<Tiles>();
  auto* h = reinterpret_cast<float*>(&tiles + 1);
  const int64_t chunk = blockIdx.x, first = chunk * grain;
  const int64_t last = first + grain < args.size.batch ? first + grain : args.size.batch;
  float* d = args.workspace + gridDim.x * parameters + chunk * kGradients * state;
  float* sum = args.dweights == nullptr ? nullptr : args.workspace + chunk * parameters;
  if (sum != nullptr) for_block(static_cast<int>(parameters), [&](int e) { sum[e] = 0.f; });
  for (int64_t b = first; b < last; ++b)
    for (int64_t t = args.size.steps - 1; t >= 0; --t) step_backward(args, b, t, tiles, h, d, sum);
}

// out [n] = the sum of `parts` arrays, in order.
__global__ void __launch_bounds__(kThreads)
    add_parts_kernel(const float* from, int64_t parts, int64_t n, float* out) {
  for (int64_t e = global_thread(); e < n; e += grid_threads()) {
    float sum = 0.f;
    for (int64_t part = 0; part < parts; ++part) sum += from[part * n + e];
    out[e] = sum;
  }
}

// `arrays` of nodes x channels beside the tiles.
size_t shared_bytes(int64_t arrays, int64_t nodes, int64_t channels) {
  return sizeof(Tiles) + static_cast<size_t>(arrays * nodes * channels) * sizeof(float);
}
constexpr int64_t kForwardArrays = 3, kBackwardArrays = 4;

}  // namespace

bool refine_fits(int64_t nodes, int64_t channels) {
  int device = 0, limit = 0;
  return cudaGetDevice(&device) == cudaSuccess &&
         cudaDeviceGetAttribute(&limit, cudaDevAttrMaxSharedMemoryPerBlockOptin, device) ==
             cudaSuccess &&
         shared_bytes(kBackwardArrays, nodes, channels) <= static_cast<size_t>(limit);
}

Status refine(const RefineArgs<float>& args, Stream stream) {
  const RefineSize& s = args.size;
  if (s.batch * s.nodes * s.channels == 0) return {};
  return launch(forward_kernel, blocks_for(s.batch, 1), kThreads,
                shared_bytes(kForwardArrays, s.nodes, s.channels), stream, args);
}

Status refine_backward(const RefineBackwardArgs<float>& args, Stream stream) {
  const RefineSize& s = args.size;
  if (s.channels == 0) return {};
  const int64_t parameters = refine_parameters(s.channels);
  const int64_t chunks = s.batch * s.nodes == 0 ? 0 : refine_chunks(s);
  if (chunks > 0) {
    const Status status =
        launch(backward_kernel, static_cast<unsigned>(chunks), kThreads,
               shared_bytes(kBackwardArrays, s.nodes, s.channels), stream, args, refine_grain(s));
    if (!status.ok() || args.dweights == nullptr) return status;
  }
  if (args.dweights == nullptr) return {};
  return launch(add_parts_kernel, blocks_for(parameters, kThreads), kThreads, 0, stream,
                args.workspace, chunks, parameters, args.dweights);
}

}  // namespace stillpoint::kernels::cuda
