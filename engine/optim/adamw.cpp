#include "engine/optim/adamw.h"

#include <algorithm>
#include <limits>
#include <map>
#include <string>
#include <utility>

#include "engine/tensor_impl.h"

namespace stillpoint::optim {
namespace {

const void* address_of(const Tensor& t) {
  const Tensor::Impl* impl = AutogradAccess::impl(t);
  return static_cast<const char*>(impl->block.get()) + impl->offset * size_of(t.dtype());
}

constexpr int32_t kMostSteps = std::numeric_limits<int32_t>::max();

}  // namespace

void check_options(const AdamWOptions& o) {
  const auto is_fraction = [](double x) { return x >= 0 && x < 1; };
  check<OptionError>(is_fraction(o.beta1) && is_fraction(o.beta2),
                     "AdamW: betas are {} and {}, wanted 0 <= beta < 1", o.beta1, o.beta2);
  check<OptionError>(o.epsilon > 0, "AdamW: epsilon is {}, wanted more than 0", o.epsilon);
  check<OptionError>(o.weight_decay >= 0, "AdamW: weight decay is {}, wanted 0 or more",
                     o.weight_decay);
  check<OptionError>(o.clip_norm.value_or(1) > 0, "AdamW: clip norm is {}, wanted more than 0",
                     o.clip_norm.value_or(1));
  check<OptionError>(is_fraction(o.average_decay.value_or(0)),
                     "AdamW: average decay is {}, wanted 0 <= decay < 1",
                     o.average_decay.value_or(0));
}

AdamW::AdamW(NamedTensors parameters, AdamWOptions options)
    : parameters_(std::move(parameters)),
      options_(options),
      step_(Tensor::zeros({}, {.dtype = DType::i32})) {
  check_options(options_);
  std::map<const void*, std::string> seen;
  for (const auto& [name, p] : parameters_) {
    check<OptionError>(p.requires_grad(), "AdamW: {} does not require a gradient", name);
    check<OptionError>(AutogradAccess::impl(p)->node == nullptr,
                       "AdamW: {} is the result of an op, wanted a leaf", name);
    if (p.numel() > 0) {  // two entries for one address would be updated at once
      const auto [first, fresh] = seen.try_emplace(address_of(p), name);
      check<OptionError>(fresh, "AdamW: {} and {} are the same tensor; give it once", name,
                         first->second);
    }
    const bool decays = options_.decay == Decay::all || p.rank() >= 2;
    slots_.push_back({.parameter = p.detach(),
                      .gradient = {},
                      .first = Tensor::zeros(p.shape(), p.options()),
                      .second = Tensor::zeros(p.shape(), p.options()),
                      .average = options_.average_decay ? p.detach().clone() : Tensor(),
                      .weight_decay = decays ? options_.weight_decay : 0.0});
  }
}

double AdamW::average_decay() const {
  const double past = static_cast<double>(steps());
  return std::min(options_.average_decay.value_or(0), (1 + past) / (10 + past));
}

void AdamW::step(const Tensor& gradient_scale) {
  check<OptionError>(steps() < kMostSteps, "AdamW: {} steps were made, more cannot be counted",
                     steps());
  std::vector<Slot> active;
  size_t index = 0;
  for (const auto& [name, p] : parameters_) {
    const Slot& slot = slots_[index++];
    if (!p.grad()) continue;
    active.push_back(slot);
    active.back().gradient = p.grad();
  }
  check<GradientError>(!active.empty(), "AdamW: no parameter has a gradient, call backward first");
  table_.set(active);
  Tensor scale = gradient_scale;
  if (options_.clip_norm) {
    const Tensor norm_and_scale = optim::gradient_norm(table_, *options_.clip_norm);
    norm_ = norm_and_scale.alias({}, 0);
    scale = norm_and_scale.alias({}, 1);
  }
  adamw(table_, {.learning_rate = options_.learning_rate,
                 .beta1 = options_.beta1,
                 .beta2 = options_.beta2,
                 .epsilon = options_.epsilon,
                 .average_decay = average_decay(),
                 .step = steps() + 1,
                 .gradient_scale = scale});
  ++step_.mutable_data<int32_t>()[0];
  forget_gradients();
}

void AdamW::forget_gradients() {
  for (auto& [name, p] : parameters_) p.set_grad({});
}

NamedTensors AdamW::state() const {
  NamedTensors all = {{"optim.step", step_}};
  size_t index = 0;
  for (const auto& [name, p] : parameters_) {
    const Slot& slot = slots_[index++];
    all["optim.first." + name] = slot.first;
    all["optim.second." + name] = slot.second;
    if (slot.average) all["optim.average." + name] = slot.average;
  }
  return all;
}

void AdamW::load_state(const NamedTensors& from) {
  if (const auto saved = from.find("optim.step"); saved != from.end()) {
    const Tensor& step = saved->second;
    check_dtype(step, DType::i32, "load", "optim.step");
    check_shape(step, step_.shape(), "load", "optim.step");
    const double count = step.item();
    check<FormatError>(count >= 0 && count < kMostSteps,
                       "load: optim.step is {}, wanted 0 to less than {}", count, kMostSteps);
  }
  assign_tensors(state(), from);
}

NamedTensors AdamW::averages() const {
  NamedTensors all;
  size_t index = 0;
  for (const auto& [name, p] : parameters_)
    if (const Slot& slot = slots_[index++]; slot.average) all[name] = slot.average;
  return all;
}

AveragedParameters::AveragedParameters(const NamedTensors& parameters, const NamedTensors& averages)
    : parameters_(averages) {
  for (auto& [name, p] : parameters_) {
    p = parameters.at(name);
    own_values_[name] = p.detach().clone();
  }
  // All memory is there: from here on only a device that has stopped working can fail.
  try {
    for (auto& [name, p] : parameters_) p.assign(averages.at(name));
  } catch (...) {
    restore();
    throw;
  }
}

AveragedParameters::~AveragedParameters() { restore(); }

void AveragedParameters::restore() noexcept {
  for (auto& [name, p] : parameters_) {
    try {
      p.assign(own_values_.at(name));
    } catch (const DeviceError&) {
      // The device and all that it held are lost, and every later use of it says so.
    }
  }
}

}  // namespace stillpoint::optim
