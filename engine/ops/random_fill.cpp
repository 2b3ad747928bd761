#include "kernels/random_fill/random_fill.h"

#include <cmath>
#include <utility>

#include "engine/dispatch.h"
#include "engine/ops.h"
#include "kernels/random_fill/random_fill_reference.h"

namespace stillpoint::ops {
namespace {

Tensor random_fill(Shape shape, Philox& random, kernels::RandomKind kind, double first,
                   double second, TensorOptions options, const char* op) {
  check<TypeError>(options.dtype != DType::i32, "{}: i32 was asked for, wanted f32 or f64", op);
  check<OptionError>(std::isfinite(first) && std::isfinite(second),
                     "{}: parameters {} and {}, wanted finite numbers", op, first, second);
  Tensor out = Tensor::empty(std::move(shape), options);
  const uint64_t block = random.reserve(static_cast<uint64_t>((out.numel() + 3) / 4));
  STILLPOINT_DISPATCH(random_fill, out, ([&]<class T>() {
                        return kernels::RandomFillArgs<T>{.out = out.mutable_data<T>(),
                                                          .n = out.numel(),
                                                          .kind = kind,
                                                          .first = static_cast<T>(first),
                                                          .second = static_cast<T>(second),
                                                          .seed = random.seed(),
                                                          .stream = random.stream(),
                                                          .first_block = block};
                      }));
  return out;
}

}  // namespace

Tensor uniform(Shape shape, Philox& random, double low, double high, TensorOptions options) {
  check<OptionError>(low <= high, "uniform: low is {} and high {}, wanted low <= high", low, high);
  return random_fill(std::move(shape), random, kernels::RandomKind::uniform, low, high, options,
                     "uniform");
}

Tensor normal(Shape shape, Philox& random, double mean, double deviation, TensorOptions options) {
  check<OptionError>(deviation >= 0, "normal: deviation is {}, wanted 0 or more", deviation);
  return random_fill(std::move(shape), random, kernels::RandomKind::normal, mean, deviation,
                     options, "normal");
}

}  // namespace stillpoint::ops
