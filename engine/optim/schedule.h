// The learning rate over the steps of a training.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numbers>

namespace stillpoint::optim {

// Rises linearly over the first `warmup` steps, then falls on half a cosine to `floor` at step
// `total`, and stays there. Loshchilov, Hutter: "SGDR: stochastic gradient descent with warm
// restarts", ICLR 2017, equation 5, without the restarts.
struct WarmupCosine {
  double peak = 1e-3;
  int64_t warmup = 0;
  int64_t total = 1;
  double floor = 0;

  // Of step 0, 1, ...
  double operator()(int64_t step) const {
    if (step < warmup) return peak * static_cast<double>(step + 1) / static_cast<double>(warmup);
    const auto length = static_cast<double>(std::max<int64_t>(1, total - warmup));
    const double part = std::min(1.0, static_cast<double>(step - warmup) / length);
    return floor + 0.5 * (peak - floor) * (1.0 + std::cos(std::numbers::pi * part));
  }
};

}  // namespace stillpoint::optim
