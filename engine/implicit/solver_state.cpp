#include "engine/implicit/solver_state.h"

#include <algorithm>
#include <numeric>

#include "engine/cuda/runtime.h"
#include "engine/ops.h"

namespace stillpoint::implicit {
namespace {

constexpr auto kBytes = static_cast<int64_t>(sizeof(double));

}  // namespace

Doubles::Doubles(int64_t count, Device device, double value)
    : block_(allocate(count * kBytes, device)), count_(count), device_(device) {
  if (device == Device::cpu) {
    std::fill_n(data(), count, value);
    return;
  }
  const std::vector<double> values(static_cast<size_t>(count), value);
  cuda::copy_to_device(data(), values.data(), count * kBytes);
}

std::vector<double> Doubles::to_vector() const {
  std::vector<double> values(static_cast<size_t>(count_));
  if (device_ == Device::cpu) {
    std::copy_n(data(), count_, values.data());
  } else {
    cuda::copy_to_host(values.data(), data(), count_ * kBytes);
  }
  return values;
}

Active::Active(std::vector<int32_t> rows, Device device)
    : samples(std::move(rows)),
      index(Tensor::from(samples, {static_cast<int64_t>(samples.size())}).to(device)) {}

Active all_of(int64_t batch, Device device) {
  std::vector<int32_t> samples(static_cast<size_t>(batch));
  std::iota(samples.begin(), samples.end(), 0);
  return Active(std::move(samples), device);
}

std::unique_ptr<Stepper> make_stepper(const Solver& solver, const Tensor& z0) {
  struct Make {
    const Tensor& z0;
    std::unique_ptr<Stepper> operator()(const Damped& o) const {
      return std::make_unique<DampedStepper>(o);
    }
    std::unique_ptr<Stepper> operator()(const Anderson& o) const {
      return std::make_unique<AndersonStepper>(o, z0);
    }
    std::unique_ptr<Stepper> operator()(const Broyden& o) const {
      return std::make_unique<BroydenStepper>(o, z0);
    }
  };
  return std::visit(Make{z0}, solver);
}

// Rows of samples that are done go on moving; nobody looks at them any more.
Tensor DampedStepper::step(const Tensor& z, const Tensor& fz, const Active&, const Tensor&) {
  if (options_.step == 1) return fz;
  return ops::add(ops::affine(z, 1 - options_.step), ops::affine(fz, options_.step));
}

}  // namespace stillpoint::implicit
