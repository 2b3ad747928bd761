#include "engine/dispatch.h"

#include <atomic>

namespace stillpoint {
namespace {

std::atomic<int64_t> started[3];

}  // namespace

KernelCounts kernel_counts() { return {started[0].load(), started[1].load(), started[2].load()}; }

int64_t rows_of(const Tensor& t) {
  return numel({t.shape().begin(), t.shape().end() - (t.rank() > 0 ? 1 : 0)});
}

namespace detail {

Backend backend_of(const Tensor& t) {
  const Backend backend = t.dtype() == DType::f64      ? Backend::reference
                          : t.device() == Device::cuda ? Backend::cuda
                                                       : Backend::cpu;
  started[static_cast<int>(backend)].fetch_add(1);
  return backend;
}

}  // namespace detail
}  // namespace stillpoint
