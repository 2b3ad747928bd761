#include "engine/implicit/stability.h"

#include <algorithm>

#include "engine/ops.h"

namespace stillpoint::implicit {

Tensor jacobian_penalty(const Map& f, const Tensor& z, const std::vector<Tensor>& inputs,
                        Philox& random, int probes) {
  check_floating(z, "jacobian_penalty", "z");
  check<ShapeError>(z.rank() >= 1, "jacobian_penalty: z has shape [], wanted [batch, ...]");
  check<OptionError>(probes >= 1, "jacobian_penalty: {} probes, wanted 1 or more", probes);
  Tensor at = z.detach();
  at.set_requires_grad();
  const BackwardOptions product = {.create_graph = grad_enabled(), .retain_graph = true};
  const WithGrad recording;
  const Tensor y = f(at, inputs);
  check_shape(y, z.shape(), "jacobian_penalty", "f(z)");
  Tensor sum = Tensor::zeros({}, z.options());
  if (!y.requires_grad()) return sum;
  for (int k = 0; k < probes; ++k) {
    const Tensor direction = ops::normal(z.shape(), random, 0.0, 1.0, z.options());
    sum = ops::add(sum, ops::sum(ops::square(vjp(y, at, direction, product))));
  }
  const auto count = static_cast<double>(std::max<int64_t>(1, z.numel()) * probes);
  return ops::affine(sum, 1.0 / count);
}

SpectralClip::SpectralClip(SpectralClipOptions options) : options_(options) {
  check<OptionError>(options.clip > 0, "SpectralClip: clip is {}, wanted more than 0",
                     options.clip);
  check<OptionError>(options.iterations >= 1, "SpectralClip: {} iterations, wanted 1 or more",
                     options.iterations);
}

Tensor SpectralClip::operator()(const Tensor& weight) {
  check_floating(weight, "SpectralClip", "weight");
  check<ShapeError>(weight.rank() == 2, "SpectralClip: weight has shape {}, wanted [out, in]",
                    weight.shape());
  if (!left_) {
    Philox random(options_.seed);
    left_ = ops::normal({1, weight.dim(0)}, random, 0.0, 1.0, weight.options());
  }
  // The floor keeps 0 / 0 out.
  const auto normalised = [](const Tensor& x) {
    return ops::mul(x, ops::rsqrt(ops::affine(ops::sum(ops::square(x)), 1.0, 1e-30)));
  };
  Tensor right;
  {
    const NoGrad quiet;
    left_ = normalised(left_);
    for (int k = 0; k < options_.iterations; ++k) {
      right = ops::matmul(left_, weight);
      // A little of what there was: the same singular vector, but it outlives a weight of zeros.
      left_ = normalised(ops::add(ops::linear(right, weight), ops::affine(left_, 1e-12)));
    }
    right = normalised(ops::matmul(left_, weight));
  }
  const Tensor norm = ops::sum(ops::mul(left_, ops::linear(right, weight)));
  norm_ = norm.detach();
  const Tensor bound = Tensor::full({1}, options_.clip, weight.options());
  const Tensor larger = ops::max(ops::concat({ops::reshape(norm, {1}), bound}), 0);
  return ops::mul(weight, ops::div(Tensor::full({}, options_.clip, weight.options()), larger));
}

}  // namespace stillpoint::implicit
