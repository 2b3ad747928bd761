// gru_cell on CUDA: a warp strides over the channels of its row, so reads are coalesced and no
// index needs a division.
#include "kernels/common/launch.h"
#include "kernels/elementwise/functions.h"
#include "kernels/gru_cell/gru_cell.h"

namespace stillpoint::kernels::cuda {
namespace {

constexpr int kRows = 8;  // rows a block, a warp each

struct Gates {
  float r, z, n, hn;
};

// The gates of one channel; x and h point at its reset pre-activations.
__device__ __forceinline__ Gates gates_of(const float* x, const float* h, int64_t channels) {
  const float r = scalar::logistic(x[0] + h[0]);
  const float z = scalar::logistic(x[channels] + h[channels]);
  const float candidate = h[2 * channels];
  return {r, z, tanhf(fmaf(r, candidate, x[2 * channels])), candidate};
}

__global__ void __launch_bounds__(kRows* kWarpSize) forward_kernel(GruCellArgs<float> args) {
  const int64_t channels = args.channels;
  for (int64_t row = int64_t{blockIdx.x} * kRows + threadIdx.y; row < args.rows;
       row += int64_t{gridDim.x} * kRows) {
    const int64_t gates = 3 * row * channels, state = row * channels;
    for (int64_t k = threadIdx.x; k < channels; k += kWarpSize) {
      const Gates a = gates_of(args.x_gates + gates + k, args.h_gates + gates + k, channels);
      args.out[state + k] = fmaf(a.z, args.h[state + k], (1.f - a.z) * a.n);
    }
  }
}

__global__ void __launch_bounds__(kRows* kWarpSize)
    backward_kernel(GruCellBackwardArgs<float> args) {
  const int64_t channels = args.channels;
  for (int64_t row = int64_t{blockIdx.x} * kRows + threadIdx.y; row < args.rows;
       row += int64_t{gridDim.x} * kRows) {
    const int64_t gates = 3 * row * channels, state = row * channels;
    for (int64_t k = threadIdx.x; k < channels; k += kWarpSize) {
      const Gates a = gates_of(args.x_gates + gates + k, args.h_gates + gates + k, channels);
      const float g = args.g[state + k];
      const float an = g * (1.f - a.z) * fmaf(-a.n, a.n, 1.f);
      const float ar = an * a.hn * (a.r * (1.f - a.r));
      const float az = g * (args.h[state + k] - a.n) * (a.z * (1.f - a.z));
      float* dx = args.dx_gates + gates + k;
      float* dh = args.dh_gates + gates + k;
      dx[0] = dh[0] = ar;
      dx[channels] = dh[channels] = az;
      dx[2 * channels] = an;
      dh[2 * channels] = an * a.r;
      args.dh[state + k] = g * a.z;
    }
  }
}

}  // namespace

Status gru_cell(const GruCellArgs<float>& args, Stream stream) {
  if (args.rows == 0 || args.channels == 0) return {};
  return launch(forward_kernel, blocks_for(args.rows, kRows), dim3(kWarpSize, kRows), 0, stream,
                args);
}

Status gru_cell_backward(const GruCellBackwardArgs<float>& args, Stream stream) {
  if (args.rows == 0 || args.channels == 0) return {};
  return launch(backward_kernel, blocks_for(args.rows, kRows), dim3(kWarpSize, kRows), 0, stream,
                args);
}

}  // namespace stillpoint::kernels::cuda
