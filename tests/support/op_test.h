// One list of cases per op feeds every check that an op must pass:
//
// *  parity: each backend (CPU on every instruction set, CUDA) in float32 against the float64
//    reference, forward and gradient, within a tolerance scaled by the number of terms that are
//    added; the gradient once from its fused kernel and once composed from ops;
//
// *  threads: the CPU's results are the same bits with one thread, two and three;
//
// *  gradients: finite differences in float64, and again for the second derivative where the op has
//    one;
//
// *  an op on the CUDA device starts CUDA kernels only.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "engine/graph.h"
#include "engine/tensor.h"

namespace stillpoint::test {

enum class Derivatives { none, first, second };

struct OpCase {
  std::string name;
  // float64 inputs (differentiated) and int32 inputs (not), all on the CPU. Values are rounded to
  // float32 first, so that reference and backends start from the same numbers.
  std::vector<Tensor> inputs;
  // The op. Called with the inputs in the dtype and on the device under test; graphs must follow
  // the device of inputs[0] (see Graph::to).
  std::function<Tensor(std::span<const Tensor>)> op;
  Derivatives derivatives = Derivatives::second;
  double terms = 1;      // numbers added into one element of the output
  double tolerance = 8;  // in units of eps32 sqrt(terms) max(1, |reference|)
  // Gradients of a few elements are compared by finite differences; set to 0 to leave those out
  // where the input holds NaN or infinities.
  int gradient_probes = 24;
};

// Runs every check on every case; failures name the op, case, backend and element.
void check_op(const std::string& op, const std::vector<OpCase>& cases);

// Values in +-1 (times `scale`), kept `margin` away from 0 so that finite differences do not cross
// a kink.
Tensor random_tensor(Shape shape, uint64_t seed, double scale = 1.0, double margin = 0.0);
Tensor random_indices(Shape shape, int32_t limit, uint64_t seed);

// The sizes around vector widths and warps that every op is swept over.
inline const std::vector<int64_t> kAwkwardSizes = {0, 1, 7, 8, 31, 32, 33, 257};

// Expects `got` (any dtype and device) to be within tolerance of `wanted` (float64): c eps32
// sqrt(terms) max(1, |wanted|), NaN only where wanted is NaN, infinities equal.
void expect_close(const Tensor& got, const Tensor& wanted, double c, double terms,
                  const std::string& what);
void expect_same_bits(const Tensor& got, const Tensor& wanted, const std::string& what);

}  // namespace stillpoint::test
