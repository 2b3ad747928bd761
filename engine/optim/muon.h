// Muon: for the weight matrices between hidden layers a step is the momentum made orthogonal, so
// that every direction of the matrix learns at one rate, also those in which gradients are small;
// all other parameters (biases, embeddings, first and last layers) take AdamW's.
//
//   m = m + (1 - mu) (g - m)      u = g + mu (m - g)      o = orthogonalise(u)
//   p = p - a (0.2 sqrt(max(rows, columns)) o + w p)
//
// Jordan and others: "Muon: an optimizer for hidden layers in neural networks", 2024 (Nesterov's
// momentum, Newton-Schulz); Liu and others: "Muon is scalable for LLM training", 2025, equation 4:
// the factor that gives o the size of AdamW's steps, so that learning rate a and decay w serve
// both.
//
//   optim::Muon optimiser(parameters(network), matrices, {.learning_rate = 2e-3, .clip_norm
//   = 1.0});
#pragma once

#include <map>
#include <string>
#include <vector>

#include "engine/optim/adamw.h"

namespace stillpoint::optim {

// About U V^T of x = U S V^T, x [M, N]: five steps of Newton and Schulz's iteration in the quintic
// form of Jordan and others, which takes singular values above about 1e-3 of the norm to 0.7 to
// 1.2. Zero stays zero. Costs 10 min(M, N)^2 (2 max(M, N) + min(M, N)) flops in products of dense
// matrices.
Tensor orthogonalise(const Tensor& x);

class Muon {
 public:
  // `matrices` are the names of parameters of rank 2; with none this is AdamW. At least one
  // parameter is left to AdamW. `options` are of all parameters but for betas and epsilon, of
  // AdamW's alone; `momentum` is of the matrices. Throws OptionError as AdamW does, and on names
  // that are none or not of a matrix.
  Muon(const NamedTensors& parameters, const std::vector<std::string>& matrices,
       AdamWOptions options = {}, double momentum = 0.95);

  // As of AdamW. The state has no "optim.second.NAME" of matrices.
  void step();
  void forget_gradients();
  double learning_rate() const { return rest_.learning_rate(); }
  void set_learning_rate(double rate) { rest_.set_learning_rate(rate); }
  int64_t steps() const { return rest_.steps(); }
  Tensor gradient_norm() const { return norm_; }
  NamedTensors state() const;
  void load_state(const NamedTensors& from);
  NamedTensors averages() const;
  const NamedTensors& parameters() const { return parameters_; }

 private:
  struct Matrix {
    Tensor parameter, momentum, average;
  };
  void step_matrix(const Matrix& matrix, const Tensor& gradient, double average_decay) const;

  NamedTensors parameters_;
  AdamWOptions options_;
  double momentum_;
  std::map<std::string, Matrix> matrices_;
  AdamW rest_;
  SlotTable all_;
  Tensor norm_;
};

}  // namespace stillpoint::optim
