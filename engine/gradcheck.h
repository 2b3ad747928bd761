// Gradients against finite differences, in float64.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "engine/autograd.h"

namespace stillpoint {

struct GradcheckOptions {
  double step = 1e-5;       // half-width of the four-point difference, relative to max(1, |x|)
  double tolerance = 1e-7;  // relative to max(1, |derivative|)
  int probes = 24;  // elements looked at per input, chosen by `seed`; all if there are no more
  uint64_t seed = 1;
};

struct GradcheckReport {
  bool ok = true;
  double worst = 0;     // largest |analytic - numeric| / max(1, |numeric|)
  std::string message;  // where the worst is, when not ok
};

// Compares vjp(f) with four-point central differences of <cotangent, f>, for a random cotangent.
// `inputs` are float64 (differentiated) or int32 (held fixed). Error of the difference: O(step^4) +
// eps / step.
GradcheckReport gradcheck(const TensorFunction& f, const std::vector<Tensor>& inputs,
                          GradcheckOptions options = {});
// The same for the gradient of f: checks second derivatives.
GradcheckReport gradgradcheck(const TensorFunction& f, const std::vector<Tensor>& inputs,
                              GradcheckOptions options = {});

}  // namespace stillpoint
