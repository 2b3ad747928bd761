#include "kernels/adamw/adamw.h"

#include <cmath>
#include <cstring>
#include <utility>

#include "engine/dispatch.h"
#include "engine/optim/multi_tensor.h"
#include "kernels/adamw/adamw_reference.h"

namespace stillpoint::optim {
namespace {

void check_slot(const Slot& slot, const Tensor& like) {
  check_floating(slot.parameter, "adamw", "a parameter");
  check_like(slot.parameter, like, "adamw", "a parameter");
  const auto check_state = [&](const Tensor& t, const char* what) {
    check_like(t, like, "adamw", what);
    check_shape(t, slot.parameter.shape(), "adamw", what);
  };
  check_state(slot.gradient, "a gradient");
  check_state(slot.first, "a first moment");
  check_state(slot.second, "a second moment");
  if (slot.average) check_state(slot.average, "an average");
}

}  // namespace

void SlotTable::set(std::span<const Slot> slots) {
  for (const Slot& slot : slots) check_slot(slot, slots.front().parameter);
  SlotTable next;
  next.count_ = static_cast<int64_t>(slots.size());
  if (!slots.empty()) {
    next.options_ = slots.front().parameter.options();
    if (next.options_.dtype == DType::f64) {
      next.fill<double>(slots);
    } else {
      next.fill<float>(slots);
    }
  }
  next.on_device_ = next.bytes_ == bytes_ ? on_device_ : Tensor();
  if (next.options_.device == Device::cuda && !next.on_device_) {
    const auto size = static_cast<int64_t>(next.bytes_.size());
    next.on_device_ = Tensor::empty({size / size_of(DType::i32)}, {DType::i32, Device::cuda});
    cuda::copy_to_device(next.on_device_.mutable_data<int32_t>(), next.bytes_.data(), size);
  }
  *this = std::move(next);  // last: a table that could not be sent must not pass for one that was
}

template <class T>
void SlotTable::fill(std::span<const Slot> slots) {
  using Entry = kernels::AdamwTensor<T>;
  const auto address = [](Tensor t) { return t ? t.mutable_data<T>() : nullptr; };
  for (const Slot& slot : slots) {
    Entry entry;
    std::memset(&entry, 0, sizeof entry);  // padding too: tables are compared as bytes
    entry.parameter = address(slot.parameter);
    entry.gradient = address(slot.gradient);
    entry.first = address(slot.first);
    entry.second = address(slot.second);
    entry.average = address(slot.average);
    entry.n = slot.parameter.numel();
    entry.first_chunk = chunks_;
    entry.weight_decay = static_cast<T>(slot.weight_decay);
    const auto* raw = reinterpret_cast<const std::byte*>(&entry);
    bytes_.insert(bytes_.end(), raw, raw + sizeof entry);
    chunks_ += (entry.n + kernels::kAdamwChunk - 1) / kernels::kAdamwChunk;
  }
}

const void* SlotTable::data() const {
  return options_.device == Device::cpu ? static_cast<const void*>(bytes_.data())
                                        : on_device_.data<int32_t>();
}

Tensor gradient_norm(const SlotTable& table, double max_norm) {
  check<OptionError>(table.count() > 0, "gradient_norm: there are no gradients");
  Tensor out = Tensor::empty({2}, table.options());
  Tensor workspace = Tensor::empty({table.chunks()}, table.options());
  STILLPOINT_DISPATCH(gradient_norm, out, ([&]<class T>() {
                        return kernels::GradientNormArgs<T>{
                            .tensors = static_cast<const kernels::AdamwTensor<T>*>(table.data()),
                            .count = table.count(),
                            .chunks = table.chunks(),
                            .workspace = workspace.mutable_data<T>(),
                            .out = out.mutable_data<T>(),
                            .max_norm = static_cast<T>(max_norm)};
                      }));
  return out;
}

void adamw(const SlotTable& table, const AdamwStep& step) {
  if (table.count() == 0) return;
  const Tensor like = Tensor::empty({}, table.options());
  if (step.gradient_scale) check_like(step.gradient_scale, like, "adamw", "the gradient scale");
  const auto correction = [&](double beta) {
    return 1.0 / (1.0 - std::pow(beta, static_cast<double>(step.step)));
  };
  STILLPOINT_DISPATCH(
      adamw, like, ([&]<class T>() {
        return kernels::AdamwArgs<T>{
            .tensors = static_cast<const kernels::AdamwTensor<T>*>(table.data()),
            .count = table.count(),
            .chunks = table.chunks(),
            .gradient_scale = step.gradient_scale ? step.gradient_scale.data<T>() : nullptr,
            .learning_rate = static_cast<T>(step.learning_rate),
            .first_rate = static_cast<T>(1 - step.beta1),
            .second_rate = static_cast<T>(1 - step.beta2),
            .average_rate = static_cast<T>(1 - step.average_decay),
            .epsilon = static_cast<T>(step.epsilon),
            .correction1 = static_cast<T>(correction(step.beta1)),
            .correction2 = static_cast<T>(correction(step.beta2))};
      }));
}

}  // namespace stillpoint::optim
