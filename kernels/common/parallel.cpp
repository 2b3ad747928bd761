#include "kernels/common/parallel.h"

#include <omp.h>

namespace stillpoint::kernels {
namespace {

int requested_threads = 0;
thread_local int worker = 0;

// Says which worker the thread is while it lives.
class Worker {
 public:
  explicit Worker(int index) : before_(worker) { worker = index; }
  ~Worker() { worker = before_; }
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

 private:
  int before_;
};

}  // namespace

int num_threads() {
  if (omp_in_parallel()) return 1;
  return requested_threads > 0 ? requested_threads : omp_get_max_threads();
}

void set_num_threads(int n) { requested_threads = n; }

int worker_index() { return worker; }

namespace detail {

void parallel_chunks(int64_t chunks, void (*body)(void*, int64_t), void* context) {
  const int threads = static_cast<int>(chunks < num_threads() ? chunks : num_threads());
  if (threads <= 1) {
    const Worker alone(0);
    for (int64_t chunk = 0; chunk < chunks; ++chunk) body(context, chunk);
    return;
  }
  // Chunks begin in their order: who waits for the first is not kept waiting.
#pragma omp parallel num_threads(threads)
  {
    const Worker one_of_many(omp_get_thread_num());
#pragma omp for schedule(monotonic : dynamic, 1)
    for (int64_t chunk = 0; chunk < chunks; ++chunk) body(context, chunk);
  }
}

}  // namespace detail
}  // namespace stillpoint::kernels
