#include "kernels/broyden_update/broyden_update.h"

#include "engine/dispatch.h"
#include "engine/implicit/solver_state.h"
#include "kernels/broyden_update/broyden_update_reference.h"

namespace stillpoint::implicit {

BroydenStepper::BroydenStepper(const Broyden& options, const Tensor& z0) : options_(options) {
  Shape history = z0.shape();
  history.insert(history.begin() + 1, options.memory);
  steps_ = Tensor::empty(history, z0.options());
  count_ = Tensor::zeros({z0.dim(0)}, {DType::i32, z0.device()});
  squares_ = Doubles(z0.dim(0) * options.memory, z0.device(), 0.0);
}

Tensor BroydenStepper::step(const Tensor& z, const Tensor& fz, const Active& active,
                            const Tensor& status) {
  Tensor next = Tensor::empty(z.shape(), z.options());
  const int64_t rows = active.size();
  STILLPOINT_DISPATCH(broyden_update, z, ([&]<class T>() {
                        return kernels::BroydenUpdateArgs<T>{
                            .z = z.data<T>(),
                            .fz = fz.data<T>(),
                            .index = active.index.data<int32_t>(),
                            .status = status.data<int32_t>(),
                            .steps = steps_.mutable_data<T>(),
                            .squares = squares_.data(),
                            .count = count_.mutable_data<int32_t>(),
                            .next = next.mutable_data<T>(),
                            .rows = rows,
                            .n = rows == 0 ? 0 : z.numel() / rows,
                            .memory = options_.memory};
                      }));
  return next;
}

}  // namespace stillpoint::implicit
