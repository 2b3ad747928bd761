#include <fmt/format.h>

#include "bench/support/bench.h"
#include "engine/ops.h"

namespace stillpoint::bench {
namespace {

template <class Draw>
bool add_case(const char* name, int64_t n, double flops, Draw draw) {
  return add(
      fmt::format("random_fill/{}/{}", name, n),
      [=](Device) {
        // The input says on which device and in which dtype to draw.
        return Problem{.inputs = {Tensor::empty({0}, {.dtype = DType::f64})},
                       .op =
                           [=](std::span<const Tensor> x) {
                             Philox random(1);
                             return draw(n, random, x[0].options());
                           },
                       .forward = {.bytes = 4.0 * static_cast<double>(n),
                                   .flops = flops * static_cast<double>(n)},
                       .backward = {}};
      },
      Timed::forward);
}

const bool kAdded =
    add_case("uniform", 1 << 20, 2,
             [](int64_t n, Philox& random, TensorOptions options) {
               return ops::uniform({n}, random, 0, 1, options);
             }) &&
    add_case("normal", 1 << 20, 20, [](int64_t n, Philox& random, TensorOptions options) {
      return ops::normal({n}, random, 0, 1, options);
    });

}  // namespace
}  // namespace stillpoint::bench
