// Saad, Schultz: "GMRES: a generalized minimal residual algorithm", SIAM J. Sci. Stat. Comput. 7,
// 1986, with Givens rotations; one small least-squares problem per sample, on the host.
#include "engine/implicit/gmres.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "engine/autograd.h"
#include "engine/implicit/krylov.h"
#include "engine/ops.h"

namespace stillpoint::implicit {
namespace {

// min |beta e1 - H y| for one sample, a column of H at a time.
class LeastSquares {
 public:
  LeastSquares(double beta, double target) : target_(target), right_{beta} { settle(); }

  bool settled() const { return settled_; }
  double residual() const { return std::abs(right_.back()); }

  // A column with NaN or infinity in it is not taken: what there is stays.
  void add(std::vector<double> h) {
    if (settled_) return;
    const size_t n = columns_.size();
    for (size_t j = 0; j < n; ++j) rotate(rotations_[j], h[j], h[j + 1]);
    const double length = std::hypot(h[n], h[n + 1]);
    if (!(length > 0) || !std::isfinite(length)) {
      settled_ = true;
      return;
    }
    rotations_.emplace_back(h[n] / length, h[n + 1] / length);
    rotate(rotations_.back(), h[n], h[n + 1]);
    right_.push_back(0.0);
    rotate(rotations_.back(), right_[n], right_[n + 1]);
    columns_.push_back(std::move(h));
    settle();
  }

  std::vector<double> solution() const {
    std::vector<double> y(right_.begin(), right_.end() - 1);
    for (size_t i = y.size(); i-- > 0;) {
      for (size_t j = i + 1; j < y.size(); ++j) y[i] -= columns_[j][i] * y[j];
      y[i] /= columns_[i][i];
    }
    return y;
  }

 private:
  using Rotation = std::pair<double, double>;  // cosine, sine
  static void rotate(const Rotation& by, double& a, double& b) {
    const double x = by.first * a + by.second * b;
    b = by.first * b - by.second * a;
    a = x;
  }
  void settle() { settled_ = !(residual() > target_); }

  double target_;
  bool settled_ = false;
  std::vector<std::vector<double>> columns_;
  std::vector<Rotation> rotations_;
  std::vector<double> right_;
};

}  // namespace

Solved solve_gmres(const Problem& transposed, const Tensor& g, const Gmres& options,
                   const Stopping& stopping) {
  const NoGrad quiet;
  const Shape& shape = g.shape();
  const auto flat = [](const Tensor& t) {
    return ops::reshape(t, {t.dim(0), t.dim(0) == 0 ? 0 : t.numel() / t.dim(0)});
  };
  const auto apply = [&](const Tensor& v) {
    Shape like = shape;
    like[0] = v.dim(0);
    return flat(transposed.apply(ops::reshape(v, like)));
  };
  Stopping each = stopping;
  each.look_every = 1;
  Active active = all_of(g.dim(0), g.device());
  Progress progress(g, each);
  Recorder recorder(g.dim(0), each);
  Tensor u = flat(g.detach()), right = u;
  int used = 0;  // evaluations
  while (active.size() > 0) {
    Tensor image = ops::add(apply(u), right);
    recorder.count_evaluation(active);
    progress.check(u, image, active);
    const std::vector<double> residuals = progress.residuals();
    for (const int32_t sample : active.samples)
      recorder.add(sample, residuals[static_cast<size_t>(sample)]);
    std::vector<int32_t> running = recorder.running(active);
    if (++used >= stopping.max_iterations || running.empty()) break;
    const auto left = static_cast<double>(running.size()),
               rows = static_cast<double>(active.size());
    if (left < rows && left <= transposed.share * rows) {
      const Tensor at = positions(running, active, g.device());
      u = take_rows(u, at);
      image = take_rows(image, at);
      right = take_rows(right, at);
      active = Active(std::move(running), g.device());
      transposed.select(active);
    }
    KrylovBasis basis(ops::sub(image, u));
    std::vector<LeastSquares> systems;
    std::vector<double> scales;  // what residuals are divided by: |image| or 1
    for (size_t r = 0; r < active.samples.size(); ++r) {
      const auto sample = static_cast<size_t>(active.samples[r]);
      const double beta = basis.start_norms()[r];
      scales.push_back(residuals[sample] > 0 ? beta / residuals[sample] : 1.0);
      // Half of the tolerance: |image| will have changed when the residual is computed anew.
      const double target = recorder.done(active.samples[r])
                                ? std::numeric_limits<double>::infinity()
                                : 0.5 * stopping.tolerance * scales[r];
      systems.emplace_back(beta, target);
    }
    // One evaluation is left for the residual; with only that one, a plain iteration uses it best.
    if (used + 1 >= stopping.max_iterations) {
      u = image;
      continue;
    }
    const auto settled = [](const LeastSquares& s) { return s.settled(); };
    for (int j = 0; j < options.restart && used + 1 < stopping.max_iterations; ++j) {
      if (std::all_of(systems.begin(), systems.end(), settled)) break;
      const Coefficients h = basis.append(ops::sub(basis.last(), apply(basis.last())));
      recorder.count_evaluation(active);
      ++used;
      for (size_t r = 0; r < systems.size(); ++r) {
        systems[r].add(h[r]);
        recorder.estimate(active.samples[r], systems[r].residual() / scales[r]);
      }
    }
    Coefficients y;
    for (const LeastSquares& s : systems) y.push_back(s.solution());
    u = ops::add(u, basis.combine(y));
  }
  return {progress.best(), std::move(recorder).finish(progress.best_differences(),
                                                      progress.best_scales(), g.dtype())};
}

}  // namespace stillpoint::implicit
