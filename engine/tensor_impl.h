// What is inside a Tensor. For the files of engine/ only.
#pragma once

#include "engine/tensor.h"

namespace stillpoint {

namespace autograd {
struct Node;
}

struct Tensor::Impl {
  Block block;
  int64_t offset = 0;  // elements
  Shape shape;
  int64_t numel = 0;
  TensorOptions options;

  bool leaf_requires_grad = false;
  uint64_t leaf_since = 0;               // what next_node_id() was when that was set
  Tensor gradient;                       // leaves only
  std::shared_ptr<autograd::Node> node;  // the recorded op that made this tensor, if any
  int node_output = 0;                   // which of its outputs this is
};

struct AutogradAccess {
  static Tensor::Impl* impl(const Tensor& t) { return t.impl_.get(); }
  static std::shared_ptr<Tensor::Impl> share(const Tensor& t) { return t.impl_; }
  static Tensor wrap(std::shared_ptr<Tensor::Impl> impl) {
    Tensor t;
    t.impl_ = std::move(impl);
    return t;
  }
};

}  // namespace stillpoint
