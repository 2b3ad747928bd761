#include "bench/support/bench.h"
#include "engine/ops.h"

namespace stillpoint::bench {
namespace {

const Shape kNodes = {64, 81, 96};  // the hidden states of 64 boards
constexpr double kElements = 64 * 81 * 96;

MakeProblem unary(Tensor (*op)(const Tensor&), double flops) {
  return [=](Device) {
    return Problem{.inputs = {random(kNodes, 1)},
                   .op = [op](std::span<const Tensor> in) { return op(in[0]); },
                   .forward = {.bytes = 8 * kElements, .flops = flops * kElements},
                   .backward = {.bytes = 12 * kElements, .flops = 3 * kElements}};
  };
}

MakeProblem product(Shape b, double terms) {
  return [=](Device) {
    const double small = static_cast<double>(numel(b));
    return Problem{.inputs = {random(kNodes, 1), random(b, 2)},
                   .op = [](std::span<const Tensor> in) { return ops::mul(in[0], in[1]); },
                   .forward = {.bytes = 4 * (2 * kElements + small), .flops = kElements},
                   .backward = {.bytes = 4 * (4 * kElements + 2 * small), .flops = 3 * kElements},
                   .terms = terms};
  };
}

const bool kAdded =
    add("elementwise/relu", unary(ops::relu, 1)) && add("elementwise/tanh", unary(ops::tanh, 25)) &&
    add("elementwise/silu", unary(ops::silu, 20)) && add("elementwise/mul", product(kNodes, 1)) &&
    add("elementwise/mul_by_column", product({96}, 64 * 81)) &&
    add("elementwise/mul_by_row", product({64, 81, 1}, 96));

}  // namespace
}  // namespace stillpoint::bench
