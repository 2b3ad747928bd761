#include "models/nn/layers.h"

#include <cmath>

namespace stillpoint::nn {
namespace {

void check_size(int64_t size, const char* layer, const char* what) {
  check<OptionError>(size > 0, "{}: {} is {}, wanted more than 0", layer, what, size);
}

Tensor parameter(Tensor t) { return t.set_requires_grad(); }

// Uniform in +-1 / sqrt(fan_in).
Tensor uniform(Shape shape, int64_t fan_in, Philox& random) {
  const double bound = 1.0 / std::sqrt(static_cast<double>(fan_in));
  return parameter(ops::uniform(std::move(shape), random, -bound, bound));
}

}  // namespace

Linear::Linear(int64_t in, int64_t out, Philox& random, Bias with_bias) {
  check_size(in, "Linear", "in");
  check_size(out, "Linear", "out");
  weight = uniform({out, in}, in, random);
  if (with_bias == Bias::yes) bias = uniform({out}, in, random);
}

GruCell::GruCell(int64_t in, int64_t channels, Philox& random) {
  check_size(in, "GruCell", "in");
  check_size(channels, "GruCell", "channels");
  for (Linear* layer : {&input, &state}) {
    layer->weight = uniform({3 * channels, layer == &input ? in : channels}, channels, random);
    layer->bias = uniform({3 * channels}, channels, random);
  }
}

RmsNorm::RmsNorm(int64_t channels) {
  check_size(channels, "RmsNorm", "channels");
  weight = parameter(Tensor::full({channels}, 1.0));
}

LayerNorm::LayerNorm(int64_t channels) {
  check_size(channels, "LayerNorm", "channels");
  weight = parameter(Tensor::full({channels}, 1.0));
  bias = parameter(Tensor::zeros({channels}));
}

Embedding::Embedding(int64_t entries, int64_t channels, Philox& random) {
  check_size(entries, "Embedding", "entries");
  check_size(channels, "Embedding", "channels");
  table = parameter(ops::normal({entries, channels}, random));
}

}  // namespace stillpoint::nn
