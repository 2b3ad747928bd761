// random_fill by its formula. In double it is the truth that the tests hold the backends to.
#pragma once

#include <cmath>
#include <cstdint>
#include <numbers>

#include "kernels/common/philox.h"
#include "kernels/random_fill/random_fill.h"

namespace stillpoint::kernels::reference {

template <class T>
void random_fill(const RandomFillArgs<T>& args) {
  for (int64_t i = 0; i < args.n; ++i) {
    const PhiloxBlock words =
        philox4x32_10(args.seed, args.first_block + static_cast<uint64_t>(i / 4), args.stream);
    const auto uniform = [&](int64_t j) { return T{uniform_from_bits(words.v[j])}; };
    if (args.kind == RandomKind::uniform) {
      args.out[i] = args.first + (args.second - args.first) * uniform(i % 4);
      continue;
    }
    const int64_t pair = i % 4 / 2 * 2;
    const T radius = std::sqrt(-2 * std::log(uniform(pair) + T{0x1p-24}));
    const T angle = 2 * std::numbers::pi_v<T> * uniform(pair + 1);
    args.out[i] =
        args.first + args.second * radius * (i % 2 == 0 ? std::cos(angle) : std::sin(angle));
  }
}

}  // namespace stillpoint::kernels::reference
