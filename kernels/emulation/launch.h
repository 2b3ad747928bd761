// How a kernel and its arguments travel from the launch to the moment they run.
#pragma once

#include <cuda_runtime.h>

#include <memory>
#include <tuple>
#include <type_traits>

namespace stillpoint::emulation {

class Invocation {
 public:
  virtual ~Invocation() = default;
  virtual void run() const = 0;  // the kernel, as one thread runs it
};

template <class... P>
class KernelInvocation final : public Invocation {
 public:
  static_assert((std::is_trivially_copyable_v<P> && ...), "kernel arguments are copied as bytes");
  KernelInvocation(void (*kernel)(P...), P... arguments)
      : kernel_(kernel), arguments_(arguments...) {}
  void run() const override { std::apply(kernel_, arguments_); }

 private:
  void (*kernel_)(P...);
  std::tuple<P...> arguments_;
};

struct Launch {
  const void* kernel = nullptr;
  dim3 grid, block;
  size_t shared_bytes = 0;
  std::shared_ptr<const Invocation> invocation;
  size_t invocation_bytes = 0;
  size_t shared_asked = 0;  // cudaFuncAttributeMaxDynamicSharedMemorySize, if it was set
};

cudaError_t enqueue_kernel(Launch launch, cudaStream_t stream);

template <class... P>
cudaError_t launch_kernel(void (*kernel)(P...), dim3 grid, dim3 block, size_t shared_bytes,
                          cudaStream_t stream, P... arguments) {
  return enqueue_kernel({reinterpret_cast<const void*>(kernel), grid, block, shared_bytes,
                         std::make_shared<KernelInvocation<P...>>(kernel, arguments...),
                         sizeof(KernelInvocation<P...>)},
                        stream);
}

// One static shared array of one kernel: each block gets its own, poisoned, between red zones.
struct SharedArray {
  const char* name;
  size_t bytes, alignment;
  uint64_t block = 0;  // the block that `address` was made for
  void* address = nullptr;
};
void* shared_array(SharedArray& array);
void* dynamic_shared();

}  // namespace stillpoint::emulation
