#include "kernels/anderson/anderson.h"

#include "engine/dispatch.h"
#include "engine/implicit/solver_state.h"
#include "kernels/anderson/anderson_reference.h"

namespace stillpoint::implicit {

AndersonStepper::AndersonStepper(const Anderson& options, const Tensor& z0) : options_(options) {
  Shape history = z0.shape();
  history.insert(history.begin() + 1, options.memory);
  moves_ = Tensor::empty(history, z0.options());
  dg_ = Tensor::empty(history, z0.options());
  count_ = Tensor::zeros({z0.dim(0)}, {DType::i32, z0.device()});
  gram_ = Doubles(z0.dim(0) * options.memory * options.memory, z0.device(), 0.0);
}

Tensor AndersonStepper::step(const Tensor& z, const Tensor& fz, const Active& active,
                             const Tensor& status) {
  Tensor next = Tensor::empty(z.shape(), z.options());
  const int64_t rows = active.size();
  STILLPOINT_DISPATCH(anderson, z, ([&]<class T>() {
                        return kernels::AndersonArgs<T>{.z = z.data<T>(),
                                                        .fz = fz.data<T>(),
                                                        .index = active.index.data<int32_t>(),
                                                        .status = status.data<int32_t>(),
                                                        .moves = moves_.mutable_data<T>(),
                                                        .dg = dg_.mutable_data<T>(),
                                                        .gram = gram_.data(),
                                                        .count = count_.mutable_data<int32_t>(),
                                                        .next = next.mutable_data<T>(),
                                                        .rows = rows,
                                                        .n = rows == 0 ? 0 : z.numel() / rows,
                                                        .memory = options_.memory,
                                                        .mixing = options_.mixing,
                                                        .ridge = options_.ridge,
                                                        .begin = options_.begin};
                      }));
  return next;
}

}  // namespace stillpoint::implicit
