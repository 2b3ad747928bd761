#include "bench/support/clock.h"

#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

#include "engine/cuda/runtime.h"
#include "engine/tensor.h"
#include "kernels/common/parallel.h"

#if defined(STILLPOINT_HAVE_CUDA)
#include <cuda_runtime.h>
#endif

namespace stillpoint::bench {
namespace {

double read_clock(clockid_t id) {
  timespec t{};
  clock_gettime(id, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

// With one thread its processor time does not see what else the machine is doing.
double cpu_now() {
  return read_clock(kernels::num_threads() == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC);
}

int64_t last_level_cache() {
  const int64_t bytes = std::max(sysconf(_SC_LEVEL3_CACHE_SIZE), sysconf(_SC_LEVEL2_CACHE_SIZE));
  return bytes > 0 ? bytes : int64_t{64} << 20;
}

#if defined(STILLPOINT_HAVE_CUDA)
void require(cudaError_t code, const char* call) {
  cuda::check_status({.code = static_cast<int>(code), .call = call}, "benchmark");
}

double cuda_seconds(int64_t calls, const std::function<void()>& call) {
  cudaEvent_t begin{}, end{};
  require(cudaEventCreate(&begin), "cudaEventCreate");
  require(cudaEventCreate(&end), "cudaEventCreate");
  require(cudaEventRecord(begin, cuda::stream()), "cudaEventRecord");
  for (int64_t k = 0; k < calls; ++k) call();
  require(cudaEventRecord(end, cuda::stream()), "cudaEventRecord");
  require(cudaEventSynchronize(end), "cudaEventSynchronize");
  float milliseconds = 0;
  require(cudaEventElapsedTime(&milliseconds, begin, end), "cudaEventElapsedTime");
  require(cudaEventDestroy(begin), "cudaEventDestroy");
  require(cudaEventDestroy(end), "cudaEventDestroy");
  return 1e-3 * milliseconds;
}
#endif

}  // namespace

double seconds(Device device, int64_t calls, const std::function<void()>& call) {
#if defined(STILLPOINT_HAVE_CUDA)
  if (device == Device::cuda) return cuda_seconds(calls, call);
#endif
  (void)device;
  const double begin = cpu_now();
  for (int64_t k = 0; k < calls; ++k) call();
  return cpu_now() - begin;
}

void empty_caches(Device device) {
  if (device == Device::cuda) {
    static const int64_t bytes = int64_t{256} << 20;  // five times the L2 of an H100
    static void* buffer = cuda::allocate(bytes);
    cuda::fill_words(buffer, 1, bytes / 4);
    return;
  }
  static std::vector<char> buffer(static_cast<size_t>(2 * last_level_cache()));
  std::fill(buffer.begin(), buffer.end(), static_cast<char>(buffer[0] + 1));
}

bool timeable(Device device) {
#if defined(STILLPOINT_CUDA_EMULATED)
  return device == Device::cpu;
#else
  return available(device);
#endif
}

}  // namespace stillpoint::bench
