// Tensor: an array on a device, with value semantics: copies share the data, and the data of a
// tensor that autograd has seen is never changed (optimisers, which own their parameters, are the
// exception).
//
// Elements are float32 (everything), float64 (CPU, computed by the reference kernels, for exact
// tests) or int32 (indices). Layout is always contiguous, last dimension fastest.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/device.h"
#include "engine/error.h"
#include "engine/memory.h"

namespace stillpoint {

using Shape = std::vector<int64_t>;

}  // namespace stillpoint

// "[64, 81, 96]": messages take shapes as they are, and format them only when there is a failure.
template <>
struct fmt::formatter<stillpoint::Shape> {
  constexpr auto parse(fmt::format_parse_context& context) { return context.begin(); }
  fmt::appender format(const stillpoint::Shape& shape, fmt::format_context& context) const;
};

namespace stillpoint {

int64_t numel(const Shape& shape);
std::string to_string(const Shape& shape);

struct TensorOptions {
  DType dtype = DType::f32;
  Device device = Device::cpu;
};

class Tensor {
 public:
  Tensor() =
      default;  // undefined: stands for "no tensor" in optional arguments and absent gradients

  static Tensor empty(Shape shape, TensorOptions options = {});
  static Tensor zeros(Shape shape, TensorOptions options = {});
  static Tensor full(Shape shape, double value, TensorOptions options = {});
  // A CPU tensor with the given elements; throws ShapeError unless their number fits the shape.
  template <class T>
  static Tensor from(const std::vector<T>& values, Shape shape);

  bool defined() const { return impl_ != nullptr; }
  explicit operator bool() const { return defined(); }
  const Shape& shape() const;
  int64_t dim(int i) const;  // negative i counts from the end
  int rank() const;
  int64_t numel() const;
  int64_t bytes() const { return numel() * size_of(dtype()); }
  DType dtype() const;
  Device device() const;
  TensorOptions options() const { return {dtype(), device()}; }

  // The elements: host memory for Device::cpu, device memory for Device::cuda. Throws TypeError on
  // a wrong T.
  template <class T>
  const T* data() const;
  template <class T>
  T* mutable_data();
  template <class T>
  std::vector<T> to_vector() const;  // copies from any device
  double item() const;               // the only element, from any device and dtype

  // Copies; a copy that changes nothing shares the data. Not recorded by autograd: see ops::to.
  Tensor to(Device device) const;
  Tensor to(DType dtype) const;
  Tensor clone() const;
  // The same elements under another shape, starting `offset` elements in. Not recorded: see
  // ops::reshape, ops::narrow.
  Tensor alias(Shape shape, int64_t offset = 0) const;
  // Overwrites the elements with those of `source` (same shape and dtype, any device).
  void assign(const Tensor& source);
  void fill(double value);

  // Autograd. A leaf is a tensor made by no recorded op; backward() leaves its gradient in grad().
  bool requires_grad() const;
  Tensor& set_requires_grad(bool value = true);  // on leaves
  Tensor grad() const;
  void set_grad(Tensor gradient);  // undefined: forget it
  Tensor detach() const;           // the same data, unknown to autograd

  bool same_object(const Tensor& other) const { return impl_ == other.impl_; }

  struct Impl;  // engine/tensor_impl.h

 private:
  friend struct AutogradAccess;
  std::shared_ptr<Impl> impl_;
};

// Throws TypeError or ShapeError, naming `op` and `what`, unless the tensor is defined and as
// wanted.
void check_dtype(const Tensor& t, DType wanted, const char* op, const char* what);
void check_floating(const Tensor& t, const char* op, const char* what);
void check_shape(const Tensor& t, const Shape& wanted, const char* op, const char* what);
void check_like(const Tensor& t, const Tensor& like, const char* op,
                const char* what);  // dtype and device

}  // namespace stillpoint
