// The solvers' kernels on tensors. All state belongs to the whole batch; z and fz hold the rows of
// the samples that are still active, and Active says which. So samples may leave at any time, and
// nothing but z and f's inputs has to be gathered.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "engine/implicit/options.h"
#include "engine/tensor.h"

namespace stillpoint::implicit {

// Doubles in a device's memory, for what is accumulated in double there.
class Doubles {
 public:
  Doubles() = default;
  Doubles(int64_t count, Device device, double value);
  double* data() const { return static_cast<double*>(block_.get()); }
  std::vector<double> to_vector() const;

 private:
  Block block_;
  int64_t count_ = 0;
  Device device_ = Device::cpu;
};

// The samples that rows belong to: row r is sample samples[r].
struct Active {
  explicit Active(std::vector<int32_t> rows, Device device);
  std::vector<int32_t> samples;
  Tensor index;  // the same on the device
  int64_t size() const { return static_cast<int64_t>(samples.size()); }
};
Active all_of(int64_t batch, Device device);

// out[i] = x[index[i]] for whole rows, any dtype. Not recorded.
Tensor take_rows(const Tensor& x, const Tensor& index);
// into[index[i]] = x[i], in place; index names no row twice. Not recorded.
void put_rows(const Tensor& x, const Tensor& index, Tensor& into);

// Residuals, best iterates and statuses (kernels/solver_check).
class Progress {
 public:
  // Starts at `z0` [batch, ...], which is the best iterate until there is a better one.
  Progress(const Tensor& z0, const Stopping& stopping);
  void check(const Tensor& z, const Tensor& fz, const Active& active);

  const Tensor& best() const { return best_; }
  const Tensor& status() const { return status_; }
  // [look_every, batch]: of check k in row k % look_every. Waits for the device, as all below.
  std::vector<double> residuals() const { return residual_.to_vector(); }
  const Doubles& residual() const { return residual_; }
  std::vector<double> best_differences() const { return best_difference_.to_vector(); }
  std::vector<double> best_scales() const { return best_scale_.to_vector(); }

 private:
  Stopping stopping_;
  int64_t checks_ = 0;
  Tensor best_, status_;
  Doubles residual_, best_difference_, best_scale_;
};

// What a loop on a CUDA device has done: how many iterations, and every residual (solver_loop in
// kernels/solver_check/solver_check.h).
class DeviceTrace {
 public:
  DeviceTrace(int64_t batch, int max_iterations);
  // Ends an iteration whose check is done. In a graph it sets the condition: whether another one
  // follows.
  void end_iteration(const Progress& progress, std::optional<uint64_t> condition);
  int iterations() const;  // waits for the device, as does:
  std::vector<double> residuals() const { return trace_.to_vector(); }  // [max_iterations, batch]

 private:
  int64_t batch_;
  int max_iterations_;
  Doubles trace_;
  Tensor iteration_;
};

// A solver's own state. step() gives the next iterate of every active row; call it once for each
// check, in turn.
class Stepper {
 public:
  virtual ~Stepper() = default;
  virtual Tensor step(const Tensor& z, const Tensor& fz, const Active& active,
                      const Tensor& status) = 0;
};

std::unique_ptr<Stepper> make_stepper(const Solver& solver, const Tensor& z0);

class DampedStepper final : public Stepper {
 public:
  explicit DampedStepper(const Damped& options) : options_(options) {}
  Tensor step(const Tensor& z, const Tensor& fz, const Active& active,
              const Tensor& status) override;

 private:
  Damped options_;
};

class AndersonStepper final : public Stepper {
 public:
  AndersonStepper(const Anderson& options, const Tensor& z0);
  Tensor step(const Tensor& z, const Tensor& fz, const Active& active,
              const Tensor& status) override;

 private:
  Anderson options_;
  Tensor moves_, dg_, count_;
  Doubles gram_;
};

class BroydenStepper final : public Stepper {
 public:
  BroydenStepper(const Broyden& options, const Tensor& z0);
  Tensor step(const Tensor& z, const Tensor& fz, const Active& active,
              const Tensor& status) override;

 private:
  Broyden options_;
  Tensor steps_, count_;
  Doubles squares_;
};

}  // namespace stillpoint::implicit
