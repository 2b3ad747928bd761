// Layers: small structs of tensors with a call operator. They are modules in the sense of
// engine/parameters.h, and so is every struct that holds some and visits them.
//
//   struct RefineStep {                     // h' = GRU([x, W sum_j relu(W1 h_i + W2 h_j)], h)
//     nn::Linear self, other, message;
//     nn::GruCell update;
//     Tensor operator()(const Tensor& h, const Tensor& x, const Graph& g) const {
//       const Tensor m = message(ops::message_sum(self(h), other(h), g));
//       return update(ops::concat({x, m}), h);
//     }
//     void visit(auto&& v) {
//       v("self", self); v("other", other); v("message", message); v("update", update);
//     }
//   };
//
// Layers are made on the CPU, from the random numbers that are passed in; to_device moves them.
#pragma once

#include <cstdint>

#include "engine/ops.h"
#include "engine/parameters.h"
#include "engine/random.h"

namespace stillpoint::nn {

enum class Bias : uint8_t { no, yes };

// x W^T + b: [..., in] -> [..., out]. Weight and bias start uniform in +-1 / sqrt(in).
struct Linear {
  Tensor weight;  // [out, in]
  Tensor bias;    // [out], or undefined

  Linear() = default;
  Linear(int64_t in, int64_t out, Philox& random, Bias with_bias = Bias::yes);
  Tensor operator()(const Tensor& x, ops::Activation activation = ops::Activation::none) const {
    return ops::linear(x, weight, bias, activation);
  }
  void visit(auto&& v) {
    v("weight", weight);
    v("bias", bias);
  }
};

// The gated recurrent unit of ops::gru_cell: x [..., in], h [..., channels] -> [..., channels].
// Weights start uniform in +-1 / sqrt(channels).
struct GruCell {
  Linear input, state;  // to the three gates: [3 channels, in] and [3 channels, channels]

  GruCell() = default;
  GruCell(int64_t in, int64_t channels, Philox& random);
  Tensor operator()(const Tensor& x, const Tensor& h) const {
    return ops::gru_cell(input(x), state(h), h);
  }
  void visit(auto&& v) {
    v("input", input);
    v("state", state);
  }
};

// ops::rms_norm with a weight that starts at 1.
struct RmsNorm {
  Tensor weight;  // [channels]
  double epsilon = 1e-5;

  RmsNorm() = default;
  explicit RmsNorm(int64_t channels);
  Tensor operator()(const Tensor& x, const Tensor& residual = {}) const {
    return ops::rms_norm(x, weight, residual, {.epsilon = epsilon});
  }
  void visit(auto&& v) { v("weight", weight); }
};

// ops::layer_norm with a weight that starts at 1 and a bias that starts at 0.
struct LayerNorm {
  Tensor weight, bias;  // [channels]
  double epsilon = 1e-5;

  LayerNorm() = default;
  explicit LayerNorm(int64_t channels);
  Tensor operator()(const Tensor& x) const {
    return ops::layer_norm(x, weight, bias, {.epsilon = epsilon});
  }
  void visit(auto&& v) {
    v("weight", weight);
    v("bias", bias);
  }
};

// Rows of a table by index: [...] int32 -> [..., channels]. The table starts standard normal.
struct Embedding {
  Tensor table;  // [entries, channels]

  Embedding() = default;
  Embedding(int64_t entries, int64_t channels, Philox& random);
  Tensor operator()(const Tensor& indices) const { return ops::embedding(table, indices); }
  void visit(auto&& v) { v("table", table); }
};

}  // namespace stillpoint::nn
