#include "engine/optim/adamw.h"

#include <algorithm>
#include <utility>

namespace stillpoint::optim {
namespace {

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

}  // namespace

AdamW::AdamW(NamedTensors parameters, AdamWOptions options)
    : parameters_(std::move(parameters)),
      options_(options),
      step_(Tensor::zeros({}, {.dtype = DType::i32})) {
  check_options(options_);
  for (const auto& [name, p] : parameters_) {
    check<OptionError>(p.requires_grad(), "AdamW: {} does not require a gradient", name);
    const bool decays = options_.decay == Decay::all || p.rank() >= 2;
    slots_.push_back({.parameter = p.detach(),
                      .gradient = {},
                      .first = Tensor::zeros(p.shape(), p.options()),
                      .second = Tensor::zeros(p.shape(), p.options()),
                      .average = options_.average_decay ? p.detach().clone() : Tensor(),
                      .weight_decay = decays ? options_.weight_decay : 0.0});
  }
}

void AdamW::step() {
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
  Tensor scale;
  if (options_.clip_norm) {
    const Tensor norm_and_scale = optim::gradient_norm(table_, *options_.clip_norm);
    norm_ = norm_and_scale.alias({}, 0);
    scale = norm_and_scale.alias({}, 1);
  }
  const double past = static_cast<double>(steps());
  adamw(table_,
        {.learning_rate = options_.learning_rate,
         .beta1 = options_.beta1,
         .beta2 = options_.beta2,
         .epsilon = options_.epsilon,
         .average_decay = std::min(options_.average_decay.value_or(0), (1 + past) / (10 + past)),
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

NamedTensors AdamW::averages() const {
  NamedTensors all;
  size_t index = 0;
  for (const auto& [name, p] : parameters_)
    if (const Slot& slot = slots_[index++]; slot.average) all[name] = slot.average;
  return all;
}

AveragedParameters::AveragedParameters(const AdamW& optimiser) {
  const NamedTensors averages = optimiser.averages();
  for (const auto& [name, average] : averages) {
    Tensor p = optimiser.parameters().at(name);
    own_values_[name] = p.detach().clone();
    parameters_[name] = p;
    p.assign(average);
  }
}

AveragedParameters::~AveragedParameters() {
  for (auto& [name, p] : parameters_) p.assign(own_values_.at(name));
}

}  // namespace stillpoint::optim
