// adamw: one step of AdamW on all parameters at once, and the norm of all gradients. With gradient
// scale c (1, or what clipping gives), learning rate a, weight decay w and the step's bias
// corrections c1 = 1 / (1 - beta1^t) and c2 = 1 / (1 - beta2^t), for every element:
//
//   g' = c g      m = m + (1 - beta1) (g' - m)      v = v + (1 - beta2) (g'^2 - v)
//   p = p - a (c1 m / (sqrt(c2 v) + epsilon) + w p)
//   average = average + (1 - d) (p - average), where the tensor has one
//
// Loshchilov, Hutter: "Decoupled weight decay regularization", ICLR 2019, algorithm 2, with the
// decay multiplied by the learning rate as is customary. Averaged weights: Polyak, Juditsky 1992 in
// exponential form.
//
//   gradient_norm   out[0] = sqrt(sum over all tensors of g^2)
//                   out[1] = max_norm / out[0] if out[0] > max_norm, else 1
//
// Pascanu, Mikolov, Bengio: "On the difficulty of training recurrent neural networks", ICML 2013,
// algorithm 1. The scale stays on the device: adamw reads it there, and nobody waits.
//
// Every tensor is cut into chunks of kAdamwChunk elements, counted through all tensors; the norm
// adds a chunk at a time, then the chunks in order: the same bits for any thread count. Parameter,
// moments and average are updated in place; tensors may not overlap. NaN or infinity in a gradient
// makes the norm so and parameters NaN: a broken step is not hidden.
//
// Cost per element: step 15 flops, a root and a division, 28 bytes (36 with average); norm 2 flops,
// 4 bytes.
#pragma once

#include <cstdint>

#include "kernels/common/portable.h"
#include "kernels/common/status.h"
#include "kernels/common/stream.h"

namespace stillpoint::kernels {

constexpr int64_t kAdamwChunk = 1024;

template <class T>
struct AdamwTensor {
  T* parameter;       // [n]
  const T* gradient;  // [n]
  T* first;           // [n], m
  T* second;          // [n], v
  T* average;         // [n], or null
  int64_t n;
  int64_t first_chunk;  // chunks of the tensors before this one
  T weight_decay;
};

// The tensor that a chunk belongs to; empty tensors own none.
template <class T>
STILLPOINT_HD inline const AdamwTensor<T>& tensor_of_chunk(const AdamwTensor<T>* tensors,
                                                           int64_t count, int64_t chunk) {
  int64_t low = 0, high = count;  // the tensor is in [low, high)
  while (high - low > 1) {
    const int64_t middle = low + (high - low) / 2;
    if (tensors[middle].first_chunk <= chunk) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return tensors[low];
}

template <class T>
struct AdamwArgs {
  const AdamwTensor<T>* tensors;  // [count], in the device's memory
  int64_t count;
  int64_t chunks;           // of all tensors
  const T* gradient_scale;  // [1], or null: 1
  T learning_rate;
  // 1 - beta1, 1 - beta2 and 1 - d, which float holds to more digits than the betas.
  T first_rate, second_rate, average_rate;
  T epsilon;
  T correction1, correction2;
};

template <class T>
struct GradientNormArgs {
  const AdamwTensor<T>* tensors;  // [count], in the device's memory
  int64_t count;
  int64_t chunks;  // of all tensors
  T* workspace;    // [chunks]
  T* out;          // [2]
  T max_norm;
};

namespace cpu {
void adamw(const AdamwArgs<float>& args);
void gradient_norm(const GradientNormArgs<float>& args);
}  // namespace cpu

namespace cuda {
Status adamw(const AdamwArgs<float>& args, Stream stream);
Status gradient_norm(const GradientNormArgs<float>& args, Stream stream);
}  // namespace cuda

}  // namespace stillpoint::kernels
