#include "engine/optim/muon.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "engine/autograd.h"
#include "engine/error.h"
#include "engine/ops.h"

namespace stillpoint::optim {
namespace {

NamedTensors without(NamedTensors all, const std::vector<std::string>& names) {
  for (const std::string& name : names)
    check<OptionError>(all.erase(name) == 1, "Muon: no parameter {}, or named twice", name);
  check<OptionError>(!all.empty(), "Muon: every parameter is a matrix; wanted one for AdamW");
  return all;
}

AdamWOptions without_clipping(AdamWOptions options) {
  options.clip_norm.reset();  // is of all gradients together
  return options;
}

}  // namespace

Tensor orthogonalise(const Tensor& x) {
  using ops::Transpose;
  check<ShapeError>(x.rank() == 2, "orthogonalise: x is {}, wanted [M, N]", to_string(x.shape()));
  // Coefficients of Jordan and others: the steepest at 0 whose iterates stay near 1.
  constexpr double kLinear = 3.4445, kCubic = -4.7750, kQuintic = 2.0315;
  const bool tall = x.dim(0) > x.dim(1);  // products of the smaller side
  Tensor y = ops::div(x, ops::affine(ops::sqrt(ops::sum(ops::square(x))), 1.0, 1e-12));
  for (int step = 0; step < 5; ++step) {
    const Tensor gram =
        tall ? ops::matmul(y, y, Transpose::yes) : ops::matmul(y, y, Transpose::no, Transpose::yes);
    const Tensor even =
        ops::add(ops::affine(gram, kCubic), ops::affine(ops::matmul(gram, gram), kQuintic));
    y = ops::add(ops::affine(y, kLinear), tall ? ops::matmul(y, even) : ops::matmul(even, y));
  }
  return y;
}

Muon::Muon(const NamedTensors& parameters, const std::vector<std::string>& matrices,
           AdamWOptions options, double momentum)
    : parameters_(parameters),
      options_(options),
      momentum_(momentum),
      rest_(without(parameters, matrices), without_clipping(options)) {
  check<OptionError>(momentum >= 0 && momentum < 1, "Muon: momentum is {}, wanted 0 <= mu < 1",
                     momentum);
  check_options(options);
  for (const std::string& name : matrices) {
    const Tensor& p = parameters_.at(name);
    check<OptionError>(p.rank() == 2 && p.requires_grad(),
                       "Muon: {} is {}, wanted a matrix that requires a gradient", name,
                       to_string(p.shape()));
    matrices_[name] = {.parameter = p.detach(),
                       .momentum = Tensor::zeros(p.shape(), p.options()),
                       .average = options.average_decay ? p.detach().clone() : Tensor()};
  }
}

void Muon::step() {
  const NoGrad no_grad;
  Tensor scale;
  if (options_.clip_norm) {
    std::vector<Slot> slots;
    for (const auto& [name, p] : parameters_) {
      if (!p.grad()) continue;
      const Tensor value = p.detach();
      slots.push_back({.parameter = value, .gradient = p.grad(), .first = value, .second = value});
    }
    check<GradientError>(!slots.empty(), "Muon: no parameter has a gradient, call backward first");
    all_.set(slots);
    const Tensor norm_and_scale = optim::gradient_norm(all_, *options_.clip_norm);
    norm_ = norm_and_scale.alias({}, 0);
    scale = norm_and_scale.alias({}, 1);
  }
  const double average_decay = rest_.average_decay();
  rest_.step(scale);
  for (const auto& [name, matrix] : matrices_) {
    Tensor& p = parameters_.at(name);
    if (!p.grad()) continue;
    step_matrix(matrix, scale ? ops::mul(p.grad(), scale) : p.grad(), average_decay);
    p.set_grad({});
  }
}

void Muon::step_matrix(const Matrix& matrix, const Tensor& gradient, double average_decay) const {
  Tensor p = matrix.parameter, m = matrix.momentum, average = matrix.average;
  const auto towards = [](const Tensor& from, const Tensor& to, double part) {
    return ops::add(from, ops::affine(ops::sub(to, from), part));
  };
  m.assign(towards(m, gradient, 1 - momentum_));
  const Tensor direction = orthogonalise(towards(gradient, m, momentum_));
  const double size = 0.2 * std::sqrt(static_cast<double>(std::max(p.dim(0), p.dim(1))));
  p.assign(ops::sub(ops::affine(p, 1 - learning_rate() * options_.weight_decay),
                    ops::affine(direction, learning_rate() * size)));
  if (average) average.assign(towards(average, p, 1 - average_decay));
}

void Muon::forget_gradients() {
  for (auto& [name, p] : parameters_) p.set_grad({});
}

NamedTensors Muon::state() const {
  NamedTensors all = rest_.state();
  for (const auto& [name, matrix] : matrices_) {
    all["optim.first." + name] = matrix.momentum;
    if (matrix.average) all["optim.average." + name] = matrix.average;
  }
  return all;
}

void Muon::load_state(const NamedTensors& from) {
  NamedTensors own = state();
  for (const auto& [name, unused] : rest_.state()) own.erase(name);
  assign_tensors(own, from);
  rest_.load_state(from);
}

NamedTensors Muon::averages() const {
  NamedTensors all = rest_.averages();
  for (const auto& [name, matrix] : matrices_)
    if (matrix.average) all[name] = matrix.average;
  return all;
}

}  // namespace stillpoint::optim
