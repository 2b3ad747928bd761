// random_fill: n random numbers from Philox4x32-10 (kernels/common/philox.h). Elements 4b to 4b + 3
// come from the four words w0..w3 of block `first_block + b` of the sequence (seed, stream):
//
//   uniform   out[4b + j] = low + (high - low) (w_j >> 8) 2^-24
//   normal    out[4b + j] = mean + deviation r trig(2 pi u), a pair (j = 0, 1 and 2, 3) from two
//             words: r = sqrt(-2 log(((w >> 8) + 1) 2^-24)) and u = (w' >> 8) 2^-24, with trig the
//             cosine for the first and the sine for the second
//
// Box, Muller: "A note on the generation of random normal deviates", Ann. Math. Stat. 1958. The
// largest normal is 5.8 deviations away, of probability 6e-9.
//
// Uniform numbers are the same bits on every backend, because each operation (one product, one sum)
// is rounded by itself; normal ones agree to the last bits of log, sine and cosine. Rounding can
// make a uniform number equal to `high`, unless low is 0 and high a power of two.
//
// Cost per element: uniform 12 integer products and 4 bytes; normal half a logarithm, square root
// and sine with cosine more.
#pragma once

#include <cstdint>

#include "kernels/common/status.h"
#include "kernels/common/stream.h"

namespace stillpoint::kernels {

enum class RandomKind : uint8_t { uniform, normal };

template <class T>
struct RandomFillArgs {
  T* out;  // [n]
  int64_t n;
  RandomKind kind;
  T first;   // low, or mean
  T second;  // high, or deviation
  uint64_t seed;
  uint64_t stream;
  uint64_t first_block;
};

namespace cpu {
void random_fill(const RandomFillArgs<float>& args);
}  // namespace cpu

namespace cuda {
Status random_fill(const RandomFillArgs<float>& args, Stream stream);
}  // namespace cuda

}  // namespace stillpoint::kernels
