// From tensors to kernels: float64 runs the reference, float32 the backend of its device. There is
// no other path, so an op on the CUDA device cannot quietly run on the CPU; the counters let a test
// prove it.
#pragma once

#include <cstdint>

#include "engine/cuda/runtime.h"
#include "engine/tensor.h"

namespace stillpoint {

struct KernelCounts {
  int64_t reference = 0;
  int64_t cpu = 0;
  int64_t cuda = 0;
};
KernelCounts kernel_counts();  // kernels started by ops so far, per backend

// A tensor [..., channels] as kernels over rows see it: the product of all dimensions but the last.
int64_t rows_of(const Tensor& t);

namespace detail {
enum class Backend : uint8_t { reference, cpu, cuda };
Backend backend_of(const Tensor& t);  // and counts one kernel
}  // namespace detail

#if defined(STILLPOINT_HAVE_CUDA)
#define STILLPOINT_DISPATCH_CUDA(kernel, make_args) \
  cuda::check_status(                               \
      kernels::cuda::kernel(make_args.template operator()<float>(), cuda::stream()), #kernel)
#else
#define STILLPOINT_DISPATCH_CUDA(kernel, make_args) cuda::check_status({}, #kernel)
#endif

// Runs kernels::{reference,cpu,cuda}::kernel, whichever `like` asks for. `make_args` is a generic
// lambda
// []<class T>() -> <Kernel>Args<T>, so that one statement fills the arguments for every backend.
#define STILLPOINT_DISPATCH(kernel, like, make_args)                                    \
  do {                                                                                  \
    const auto stillpoint_make_args = make_args;                                        \
    switch (::stillpoint::detail::backend_of(like)) {                                   \
      case ::stillpoint::detail::Backend::reference:                                    \
        kernels::reference::kernel(stillpoint_make_args.template operator()<double>()); \
        break;                                                                          \
      case ::stillpoint::detail::Backend::cpu:                                          \
        kernels::cpu::kernel(stillpoint_make_args.template operator()<float>());        \
        break;                                                                          \
      case ::stillpoint::detail::Backend::cuda:                                         \
        STILLPOINT_DISPATCH_CUDA(kernel, stillpoint_make_args);                         \
        break;                                                                          \
    }                                                                                   \
  } while (false)

}  // namespace stillpoint
