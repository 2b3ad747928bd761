// adamw by its formula. In double it is the truth that the tests hold the backends to.
#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/adamw/adamw.h"

namespace stillpoint::kernels::reference {

template <class T>
void adamw(const AdamwArgs<T>& args) {
  for (int64_t i = 0; i < args.count; ++i) {
    const AdamwTensor<T>& t = args.tensors[i];
    for (int64_t k = 0; k < t.n; ++k) {
      const T g = (args.gradient_scale ? *args.gradient_scale : T{1}) * t.gradient[k];
      t.first[k] += args.first_rate * (g - t.first[k]);
      t.second[k] += args.second_rate * (g * g - t.second[k]);
      const T step = args.correction1 * t.first[k] /
                     (std::sqrt(args.correction2 * t.second[k]) + args.epsilon);
      t.parameter[k] -= args.learning_rate * (step + t.weight_decay * t.parameter[k]);
      if (t.average) t.average[k] += args.average_rate * (t.parameter[k] - t.average[k]);
    }
  }
}

template <class T>
void gradient_norm(const GradientNormArgs<T>& args) {
  T squares = 0;
  for (int64_t i = 0; i < args.count; ++i)
    for (int64_t k = 0; k < args.tensors[i].n; ++k)
      squares += args.tensors[i].gradient[k] * args.tensors[i].gradient[k];
  args.out[0] = std::sqrt(squares);
  args.out[1] = args.out[0] <= args.max_norm ? T{1} : args.max_norm / args.out[0];
}

}  // namespace stillpoint::kernels::reference
