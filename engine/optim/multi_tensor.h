// The multi-tensor kernels of the optimiser (kernels/adamw/adamw.h) on tensors.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "engine/tensor.h"

namespace stillpoint::optim {

// A parameter and what is updated with it; all of one shape. `average` may be undefined.
struct Slot {
  Tensor parameter, gradient, first, second;
  Tensor average = {};
  double weight_decay = 0;
};

// The slots of a step as the kernels read them: a table of addresses in the device's memory. Kept
// over the steps, so that it is sent to the device only when an address has changed (in a steady
// loop the arena hands out the same ones). Owns no slot: they have to live until the kernels that
// get the table have been started.
class SlotTable {
 public:
  // Throws ShapeError or TypeError unless every tensor of a slot fits its parameter, and all
  // parameters have one dtype and device.
  void set(std::span<const Slot> slots);

  int64_t count() const { return count_; }
  int64_t chunks() const { return chunks_; }
  TensorOptions options() const { return options_; }
  const void* data() const;  // in the device's memory

 private:
  template <class T>
  void fill(std::span<const Slot> slots);

  std::vector<std::byte> bytes_;
  Tensor on_device_;
  TensorOptions options_;
  int64_t count_ = 0, chunks_ = 0;
};

// [2]: the norm of all gradients together, and the factor that brings it down to max_norm (1 if it
// is not above).
Tensor gradient_norm(const SlotTable& table, double max_norm);

struct AdamwStep {
  double learning_rate = 1e-3;
  double beta1 = 0.9, beta2 = 0.999;
  double epsilon = 1e-8;
  double average_decay = 0;
  int64_t step = 1;            // counted from 1
  Tensor gradient_scale = {};  // one element, or undefined: 1
};

// Updates parameters, moments and averages in place.
void adamw(const SlotTable& table, const AdamwStep& step);

}  // namespace stillpoint::optim
