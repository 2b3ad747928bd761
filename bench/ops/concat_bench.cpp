#include "bench/support/bench.h"
#include "engine/ops.h"

namespace stillpoint::bench {
namespace {

constexpr double kRows = 64 * 81;

Problem two_halves(Device) {
  return {.inputs = {random({64, 81, 96}, 1), random({64, 81, 96}, 2)},
          .op =
              [](std::span<const Tensor> in) {
                return ops::concat({in[0], in[1]});
              },
          .forward = {.bytes = 8 * kRows * 192},
          .backward = {.bytes = 8 * kRows * 192}};
}

Problem middle_third(Device) {
  return {.inputs = {random({64, 81, 288}, 3)},
          .op = [](std::span<const Tensor> in) { return ops::columns(in[0], 96, 96); },
          .forward = {.bytes = 8 * kRows * 96},
          .backward = {.bytes = kRows * (8 * 96 + 4 * 288)}};
}

const bool kAdded =
    add("concat/two_of_96", two_halves) && add("concat/columns_96_of_288", middle_third);

}  // namespace
}  // namespace stillpoint::bench
