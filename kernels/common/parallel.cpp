#include "kernels/common/parallel.h"

#include <omp.h>

namespace stillpoint::kernels {
namespace {
int requested_threads = 0;
}

int num_threads() { return requested_threads > 0 ? requested_threads : omp_get_max_threads(); }

void set_num_threads(int n) { requested_threads = n; }

namespace detail {

void parallel_chunks(int64_t chunks, void (*body)(void*, int64_t), void* context) {
  const int threads = static_cast<int>(chunks < num_threads() ? chunks : num_threads());
  if (threads <= 1 || omp_in_parallel()) {
    for (int64_t chunk = 0; chunk < chunks; ++chunk) body(context, chunk);
    return;
  }
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
  for (int64_t chunk = 0; chunk < chunks; ++chunk) body(context, chunk);
}

}  // namespace detail
}  // namespace stillpoint::kernels
