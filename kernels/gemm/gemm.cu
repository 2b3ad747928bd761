// gemm on CUDA: cuBLAS, then one pass for bias and activation where there is either.
#include "kernels/gemm/gemm.h"

#include "kernels/common/index.cuh"
#include "kernels/common/launch.h"
#include "kernels/gemm/cublas.h"
#include "kernels/gemm/gemm_reference.h"

namespace stillpoint::kernels::cuda {
namespace {

constexpr int kThreads = 256;

template <Activation kActivation, class Index>
__global__ void __launch_bounds__(kThreads)
    finish_kernel(float* out, const float* bias, int64_t total, Index n) {
  for (int64_t i = global_thread(); i < total; i += grid_threads()) {
    const float b = bias != nullptr ? bias[static_cast<Index>(i) % n] : 0.f;
    out[i] = activate(kActivation, out[i] + b);
  }
}

template <Activation kActivation>
Status finish(const GemmArgs<float>& args, Stream stream) {
  const int64_t total = args.m * args.n;
  return with_index(total, [&]<class Index>() {
    return launch(finish_kernel<kActivation, Index>, blocks_for(total, kThreads), kThreads, 0,
                  stream, args.out, args.bias, total, static_cast<Index>(args.n));
  });
}

// Operands without elements may be null pointers, which cuBLAS refuses.
Status product(const GemmArgs<float>& args, Stream stream) {
  if (args.k > 0)
    return cublas_product(args.cublas, args.transpose_a, args.transpose_b, args.m, args.n, args.k,
                          args.a, args.b, args.out);
  const auto bytes = static_cast<size_t>(args.m * args.n) * sizeof(float);
  return {cudaMemsetAsync(args.out, 0, bytes, stream), Status::Source::cuda, "cudaMemsetAsync"};
}

}  // namespace

Status gemm(const GemmArgs<float>& args, Stream stream) {
  if (args.m * args.n == 0) return {};
  const Status status = product(args, stream);
  if (!status.ok()) return status;
  switch (args.activation) {
    case Activation::none:
      return args.bias != nullptr ? finish<Activation::none>(args, stream) : Status{};
    case Activation::relu:
      return finish<Activation::relu>(args, stream);
    case Activation::sigmoid:
      return finish<Activation::sigmoid>(args, stream);
    case Activation::tanh:
      return finish<Activation::tanh>(args, stream);
  }
  return {};
}

}  // namespace stillpoint::kernels::cuda
