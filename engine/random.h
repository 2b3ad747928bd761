// Randomness is a value that is passed in: (seed, stream) name a sequence, and every draw moves
// along it. The same seed gives the same numbers on every backend and any number of threads
// (kernels/common/philox.h).
#pragma once

#include <cmath>
#include <cstdint>

#include "engine/error.h"
#include "kernels/common/philox.h"

namespace stillpoint {

class Philox {
 public:
  // Sequences with different seeds or streams are independent.
  explicit Philox(uint64_t seed, uint64_t stream = 0) : seed_(seed), stream_(stream) {}

  uint32_t bits() {
    if (used_ == 4) {
      block_ = kernels::philox4x32_10(seed_, counter_++, stream_);
      used_ = 0;
    }
    return block_.v[used_++];
  }
  // [0, 1), 24 bits.
  float uniform() { return kernels::uniform_from_bits(bits()); }
  // 0 to n - 1, without bias: Lemire, "Fast random integer generation in an interval", ACM TOMACS
  // 2019.
  uint32_t below(uint32_t n) {
    uint64_t product = uint64_t{bits()} * n;
    if (static_cast<uint32_t>(product) < n) {
      const uint32_t threshold = (0u - n) % n;
      while (static_cast<uint32_t>(product) < threshold) product = uint64_t{bits()} * n;
    }
    return static_cast<uint32_t>(product >> 32);
  }

  // The whole state, for checkpoints.
  struct State {
    uint64_t seed, stream, counter;
    uint32_t used;
  };
  State state() const { return {seed_, stream_, counter_, used_}; }
  // Throws FormatError on a state that no sequence can be in.
  static Philox from_state(const State& s) {
    check<FormatError>(s.used <= 4, "random: {} words of 4 are used", s.used);
    Philox random(s.seed, s.stream);
    random.counter_ = s.counter;
    random.used_ = s.used;
    if (s.used < 4) random.block_ = kernels::philox4x32_10(s.seed, s.counter - 1, s.stream);
    return random;
  }
  // A counter range of `blocks` for a kernel to draw from; the sequence goes on behind it.
  uint64_t reserve(uint64_t blocks) {
    const uint64_t first = counter_;
    counter_ += blocks;
    used_ = 4;
    return first;
  }
  uint64_t seed() const { return seed_; }
  uint64_t stream() const { return stream_; }

 private:
  uint64_t seed_, stream_, counter_ = 0;
  uint32_t used_ = 4;
  kernels::PhiloxBlock block_{};
};

}  // namespace stillpoint
