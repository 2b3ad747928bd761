// What this machine could do at best, measured: the floor under the time of a step.
#pragma once

#include <cstdint>

namespace stillpoint::bench {

// Multiply-adds on vectors in registers, FLOP/s of num_threads() threads together.
double multiply_add_rate();
// The dense product out [m, n] = a [m, k] b [k, n] from caches, one for each thread, FLOP/s.
double product_rate(int64_t m, int64_t n, int64_t k);
// Arrays of `bytes` together, one for each thread, written from end to end and then read back:
// bytes/s, each way counted.
double stream_rate(int64_t bytes);

}  // namespace stillpoint::bench
