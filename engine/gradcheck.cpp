#include "engine/gradcheck.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "engine/ops.h"
#include "engine/random.h"

namespace stillpoint {
namespace {

Tensor random_like(const Tensor& t, uint64_t seed) {
  Philox random(seed, 0);
  std::vector<double> v(static_cast<size_t>(t.numel()));
  for (double& x : v) x = 2.0 * random.uniform() - 1.0;
  return Tensor::from(v, t.shape());
}

double dot(const Tensor& a, const Tensor& b) {
  return std::inner_product(a.data<double>(), a.data<double>() + a.numel(), b.data<double>(), 0.0);
}

std::vector<int64_t> probes(int64_t n, const GradcheckOptions& options) {
  std::vector<int64_t> all(static_cast<size_t>(n));
  std::iota(all.begin(), all.end(), 0);
  if (n <= options.probes) return all;
  Philox random(options.seed, 1);
  for (int64_t k = 0; k < options.probes; ++k)
    std::swap(all[static_cast<size_t>(k)],
              all[static_cast<size_t>(k + random.below(static_cast<uint32_t>(n - k)))]);
  all.resize(static_cast<size_t>(options.probes));
  return all;
}

std::vector<Tensor> leaves(const std::vector<Tensor>& inputs) {
  std::vector<Tensor> fresh;
  for (const Tensor& t : inputs) {
    fresh.push_back(t.clone());
    if (t.dtype() != DType::i32) {
      check_dtype(t, DType::f64, "gradcheck", "input");
      fresh.back().set_requires_grad();
    }
  }
  return fresh;
}

std::vector<Tensor> differentiable(const std::vector<Tensor>& tensors) {
  std::vector<Tensor> found;
  std::copy_if(tensors.begin(), tensors.end(), std::back_inserter(found),
               [](const Tensor& t) { return t.dtype() == DType::f64; });
  return found;
}

}  // namespace

GradcheckReport gradcheck(const TensorFunction& f, const std::vector<Tensor>& inputs,
                          GradcheckOptions options) {
  std::vector<Tensor> x = leaves(inputs);
  const Tensor y = f(x);
  GradcheckReport report;
  if (y.numel() == 0) return report;
  const Tensor cotangent = random_like(y, options.seed + 17);
  const std::vector<Tensor> targets = differentiable(x);
  std::vector<Tensor> analytic;
  if (y.requires_grad()) {
    analytic = vjp({&y, 1}, targets, {&cotangent, 1});
  } else {
    for (const Tensor& t : targets) analytic.push_back(Tensor::zeros(t.shape(), t.options()));
  }

  // f at the inputs with element e of target k moved by `delta`. Recording stays on: f may itself
  // use vjp.
  const auto shifted = [&](size_t k, int64_t e, double delta) {
    Tensor target = targets[k];
    double& element = target.mutable_data<double>()[e];
    const double before = element;
    element = before + delta;
    const double value = dot(cotangent, f(x));
    element = before;
    return value;
  };
  for (size_t k = 0; k < targets.size(); ++k)
    for (const int64_t e : probes(targets[k].numel(), options)) {
      const double h = options.step * std::max(1.0, std::abs(targets[k].data<double>()[e]));
      const double numeric = (8 * (shifted(k, e, h) - shifted(k, e, -h)) -
                              (shifted(k, e, 2 * h) - shifted(k, e, -2 * h))) /
                             (12 * h);
      const double given = analytic[k].data<double>()[e];
      const double error = std::abs(given - numeric) / std::max(1.0, std::abs(numeric));
      if (error <= report.worst && !std::isnan(error)) continue;
      report.worst = error;
      if (error <= options.tolerance) continue;
      report.ok = false;
      report.message = fmt::format("input {} element {}: gradient {}, finite difference {}", k, e,
                                   given, numeric);
    }
  return report;
}

GradcheckReport gradgradcheck(const TensorFunction& f, const std::vector<Tensor>& inputs,
                              GradcheckOptions options) {
  const std::vector<Tensor> x = leaves(inputs);
  const Tensor y = f(x);
  if (y.numel() == 0 || !y.requires_grad()) return {};
  std::vector<Tensor> with_cotangent = inputs;
  with_cotangent.push_back(random_like(y, options.seed + 31));
  // One vector-valued function of (inputs, cotangent): all first-order gradients, weighted and
  // added up.
  const auto gradients = [&f](std::span<const Tensor> all) {
    const auto in = all.first(all.size() - 1);
    const Tensor out = f(in);
    const std::vector<Tensor> targets = differentiable({in.begin(), in.end()});
    const std::vector<Tensor> g = vjp({&out, 1}, targets, {&all.back(), 1}, {.create_graph = true});
    Tensor total;
    for (size_t k = 0; k < g.size(); ++k) {
      if (g[k].numel() == 0) continue;
      const Tensor part = ops::sum(ops::mul(g[k], random_like(g[k], 91 + k)));
      total = total ? ops::add(total, part) : part;
    }
    return total ? total : Tensor::zeros({}, {.dtype = DType::f64});
  };
  return gradcheck(gradients, with_cotangent, options);
}

}  // namespace stillpoint
