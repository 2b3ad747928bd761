#include <fmt/format.h>

#include "bench/support/bench.h"
#include "engine/ops.h"

namespace stillpoint::bench {
namespace {

bool add_case(int64_t rows, int64_t classes) {
  return add(fmt::format("cross_entropy/{}x{}", rows, classes), [=](Device) {
    const auto n = static_cast<double>(rows * classes);
    std::vector<int32_t> targets;
    for (int64_t r = 0; r < rows; ++r) targets.push_back(static_cast<int32_t>(r * 7 % classes));
    return Problem{.inputs = {random({rows, classes}, 1), Tensor::from(targets, {rows})},
                   .op = [](std::span<const Tensor> x) { return ops::cross_entropy(x[0], x[1]); },
                   .forward = {.bytes = 4 * n, .flops = 4 * n},
                   .backward = {.bytes = 8 * n, .flops = 4 * n},
                   .terms = static_cast<double>(classes)};
  });
}

bool add_softmax(int64_t rows, int64_t classes) {
  return add(fmt::format("softmax/{}x{}", rows, classes), [=](Device) {
    const auto n = static_cast<double>(rows * classes);
    return Problem{.inputs = {random({rows, classes}, 1)},
                   .op = [](std::span<const Tensor> x) { return ops::softmax(x[0]); },
                   .forward = {.bytes = 8 * n, .flops = 5 * n},
                   .backward = {.bytes = 12 * n, .flops = 4 * n},
                   .terms = static_cast<double>(classes)};
  });
}

// The cells of 64 Sudokus with their nine digits, and a vocabulary.
const bool kAdded = add_case(64 * 81, 9) && add_case(256, 8192) && add_softmax(64 * 81, 9) &&
                    add_softmax(256, 8192);

}  // namespace
}  // namespace stillpoint::bench
