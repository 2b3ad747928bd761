// AdamW, with clipping by the global norm and averaged weights. One fused kernel updates all
// parameters in one launch (kernels/adamw/adamw.h has the formula and its sources).
//
//   optim::AdamW optimiser(parameters(network), {.learning_rate = 2e-3, .clip_norm = 1.0});
//   ...
//   backward(loss);
//   optimiser.set_learning_rate(schedule(step));
//   optimiser.step();
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "engine/optim/multi_tensor.h"
#include "engine/parameters.h"

namespace stillpoint::optim {

// What weight decay pulls at: everything, as in the paper, or only tensors of rank 2 and more,
// which leaves biases and the weights of norms free.
enum class Decay : uint8_t { all, matrices };

struct AdamWOptions {
  double learning_rate = 1e-3;
  double beta1 = 0.9, beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 0.01;
  Decay decay = Decay::all;
  // Gradients whose common norm is above this are scaled down to it.
  std::optional<double> clip_norm = std::nullopt;
  // Keeps exponential averages of the parameters. In the beginning they forget faster: the decay of
  // step t is min(average_decay, (1 + t) / (10 + t)), so that a short training is not dragged down
  // by its initial values.
  std::optional<double> average_decay = std::nullopt;
};

// Throws OptionError on options outside their range.
void check_options(const AdamWOptions& options);

class AdamW {
 public:
  // Parameters are leaves that require a gradient, all of one dtype and device. Throws OptionError
  // on options outside their range, parameters that are none, and one given twice (tied weights
  // have one name).
  explicit AdamW(NamedTensors parameters, AdamWOptions options = {});

  // One step with the gradients that are there; parameters without one stay. Then forgets them.
  // `gradient_scale`, one element, scales them where clip_norm does not say by how much.
  void step(const Tensor& gradient_scale = {});
  void forget_gradients();

  double learning_rate() const { return options_.learning_rate; }
  void set_learning_rate(double rate) { options_.learning_rate = rate; }
  int64_t steps() const { return step_.data<int32_t>()[0]; }
  double average_decay() const;  // of the next step
  // The norm of the last step's gradients before clipping, [] on the parameters' device; undefined
  // without clip_norm.
  Tensor gradient_norm() const { return norm_; }

  // What a checkpoint keeps besides the parameters: "optim.step", "optim.first.NAME",
  // "optim.second.NAME" and, with averages, "optim.average.NAME". These are handles: assign to
  // them, or use load_state, which throws FormatError on a number of steps that cannot be.
  NamedTensors state() const;
  void load_state(const NamedTensors& from);
  // The averaged parameters by the parameters' names; empty without average_decay.
  NamedTensors averages() const;

  const NamedTensors& parameters() const { return parameters_; }

 private:
  NamedTensors parameters_;
  AdamWOptions options_;
  std::vector<Slot> slots_;  // in the order of parameters_; gradients are looked up in each step
  SlotTable table_;
  Tensor step_;  // int32, []: a tensor, so that checkpoints treat it as one
  Tensor norm_;
};

// While one of these lives, the parameters have their averaged values; then their own again.
// Changes nothing for an optimiser without averages, nor when the constructor throws.
class AveragedParameters {
 public:
  // An AdamW or a Muon.
  explicit AveragedParameters(const auto& optimiser)
      : AveragedParameters(optimiser.parameters(), optimiser.averages()) {}
  AveragedParameters(const NamedTensors& parameters, const NamedTensors& averages);
  ~AveragedParameters();
  AveragedParameters(const AveragedParameters&) = delete;
  AveragedParameters& operator=(const AveragedParameters&) = delete;

 private:
  void restore() noexcept;

  NamedTensors parameters_, own_values_;
};

}  // namespace stillpoint::optim
