// Threads on the CPU. Work is cut into chunks whose bounds depend on the problem alone, never on
// the number of threads, so that every result is the same bit for bit however many threads run.
#pragma once

#include <cstdint>
#include <type_traits>

namespace stillpoint::kernels {

// Threads that parallel_for may use: one inside another's body. set_num_threads(0) returns to the
// default (OMP_NUM_THREADS or all cores).
int num_threads();
void set_num_threads(int n);

// Which of the threads of the innermost parallel_for the caller is: from 0, below num_threads()
// where that was called. To pick a piece of scratch memory with; results must not depend on it.
int worker_index();

namespace detail {
void parallel_chunks(int64_t chunks, void (*body)(void* context, int64_t chunk), void* context);
}

// Calls body(begin, end) for the chunks [0, grain), [grain, 2 grain), ... of [0, n). Chunks begin
// in their order and end in any, on any thread; a chunk never knows which. A single chunk runs on
// the caller's thread without waking the others.
template <class Body>
void parallel_for(int64_t n, int64_t grain, Body&& body) {
  if (n <= 0) return;
  struct Context {
    std::remove_reference_t<Body>* body;
    int64_t n, grain;
  } context{&body, n, grain};
  detail::parallel_chunks((n + grain - 1) / grain,
                          [](void* p, int64_t chunk) {
                            const auto& c = *static_cast<Context*>(p);
                            const int64_t begin = chunk * c.grain;
                            const int64_t end = begin + c.grain < c.n ? begin + c.grain : c.n;
                            (*c.body)(begin, end);
                          },
                          &context);
}

}  // namespace stillpoint::kernels
