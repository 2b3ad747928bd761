// Means against collapse: a penalty on the Jacobian, and a bound on a weight's spectral norm.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/implicit/fixed_point.h"
#include "engine/random.h"

namespace stillpoint::implicit {

// An estimate of |df/dz|_F^2 / n, the mean over the batch, for samples of n elements: the squares
// of e^T J for `probes` random directions e (Hutchinson's estimator; Bai, Koltun, Kolter:
// "Stabilizing equilibrium models by Jacobian regularization", ICML 2021). Differentiable in the
// inputs and in what f captured, not in z, where it is taken: so every op that z passes through in
// f has to be twice differentiable, but under NoGrad, where the number is all. Advances `random`.
Tensor jacobian_penalty(const Map& f, const Tensor& z, const std::vector<Tensor>& inputs,
                        Philox& random, int probes = 1);

// Scales a weight [out, in] down to the spectral norm `clip` where it is above, and leaves it alone
// where it is not. The norm is followed by power iterations, `iterations` at each call (Miyato et
// al., "Spectral normalization for generative adversarial networks", ICLR 2018); the gradient goes
// through the scale.
struct SpectralClipOptions {
  double clip = 0.95;
  int iterations = 1;
  uint64_t seed = 1;
};
class SpectralClip {
 public:
  explicit SpectralClip(SpectralClipOptions options);
  Tensor operator()(const Tensor& weight);
  // Of the last weight, as far as the iterations have got; [] on its device, undefined before.
  Tensor norm() const { return norm_; }

 private:
  SpectralClipOptions options_;
  Tensor left_;  // [1, out], the leading left singular vector
  Tensor norm_;
};

}  // namespace stillpoint::implicit
