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

// One solve. Vectors are rows: [active samples, n].
class Solve {
 public:
  Solve(const Problem& transposed, const Tensor& g, const Gmres& options, const Stopping& stopping)
      : transposed_(transposed),
        restart_(options.restart),
        stopping_(look_always(stopping)),
        shape_(g.shape()),
        active_(all_of(g.dim(0), g.device())),
        progress_(g, stopping_),
        recorder_(g.dim(0), stopping_),
        right_(flat(g.detach())),
        u_(right_) {}

  Solved run() && {
    while (active_.size() > 0) {
      Tensor image = ops::add(apply(u_), right_);
      progress_.check(u_, image, active_);
      const std::vector<double> residuals = progress_.residuals();
      for (const int32_t sample : active_.samples)
        recorder_.add(sample, residuals[static_cast<size_t>(sample)]);
      std::vector<int32_t> running = recorder_.running(active_);
      if (used_ >= stopping_.max_iterations || running.empty()) break;
      let_leave(std::move(running), image);
      // The last evaluation is the residual's; with only that one left, a plain iteration it is.
      u_ = used_ + 1 < stopping_.max_iterations ? improved(image, residuals) : image;
    }
    const DType dtype = u_.dtype();
    return {progress_.best(), std::move(recorder_).finish(progress_.best_differences(),
                                                          progress_.best_scales(), dtype)};
  }

 private:
  static Stopping look_always(Stopping stopping) {
    stopping.look_every = 1;
    return stopping;
  }
  static Tensor flat(const Tensor& t) {
    return ops::reshape(t, {t.dim(0), t.dim(0) == 0 ? 0 : t.numel() / t.dim(0)});
  }

  // J^T v, counted.
  Tensor apply(const Tensor& v) {
    ++used_;
    recorder_.count_evaluation(active_);
    shape_[0] = v.dim(0);
    return flat(transposed_.apply(ops::reshape(v, shape_)));
  }

  void let_leave(std::vector<int32_t> running, Tensor& image) {
    const auto left = static_cast<double>(running.size()),
               rows = static_cast<double>(active_.size());
    if (left == rows || left > transposed_.share * rows) return;
    const Tensor at = positions(running, active_, u_.device());
    for (Tensor* t : {&u_, &image, &right_}) *t = take_rows(*t, at);
    active_ = Active(std::move(running), u_.device());
    transposed_.select(active_);
  }

  // u and, in the Krylov space of its residual image - u, what makes the residual least.
  Tensor improved(const Tensor& image, const std::vector<double>& residuals) {
    KrylovBasis basis(ops::sub(image, u_));
    std::vector<LeastSquares> systems;
    std::vector<double> scales;  // what residuals are divided by: |image| or 1
    for (size_t r = 0; r < active_.samples.size(); ++r) {
      const int32_t sample = active_.samples[r];
      const double beta = basis.start_norms()[r], residual = residuals[static_cast<size_t>(sample)];
      scales.push_back(residual > 0 ? beta / residual : 1.0);
      // Half of the tolerance: |image| will have changed when the residual is computed anew.
      const double target = recorder_.done(sample) ? std::numeric_limits<double>::infinity()
                                                   : 0.5 * stopping_.tolerance * scales[r];
      systems.emplace_back(beta, target);
    }
    const auto settled = [](const LeastSquares& s) { return s.settled(); };
    for (int j = 0; j < restart_ && used_ + 1 < stopping_.max_iterations; ++j) {
      if (std::all_of(systems.begin(), systems.end(), settled)) break;
      const Coefficients h = basis.append(ops::sub(basis.last(), apply(basis.last())));
      for (size_t r = 0; r < systems.size(); ++r) {
        systems[r].add(h[r]);
        recorder_.estimate(active_.samples[r], systems[r].residual() / scales[r]);
      }
    }
    Coefficients y;
    for (const LeastSquares& s : systems) y.push_back(s.solution());
    return ops::add(u_, basis.combine(y));
  }

  const Problem& transposed_;
  int restart_;
  Stopping stopping_;
  Shape shape_;
  Active active_;
  Progress progress_;
  Recorder recorder_;
  Tensor right_, u_;
  int used_ = 0;  // evaluations
};

}  // namespace

Solved solve_gmres(const Problem& transposed, const Tensor& g, const Gmres& options,
                   const Stopping& stopping) {
  const NoGrad quiet;
  return Solve(transposed, g, options, stopping).run();
}

}  // namespace stillpoint::implicit
