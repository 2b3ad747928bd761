#include "engine/tensor.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "engine/autograd_node.h"
#include "engine/cuda/runtime.h"
#include "engine/tensor_impl.h"

namespace stillpoint {

bool available(Device device) { return device == Device::cpu || cuda::device_available(); }

int64_t numel(const Shape& shape) {
  int64_t n = 1;
  for (const int64_t d : shape) {
    check<ShapeError>(d >= 0, "tensor: shape {} has a negative dimension", shape);
    check<ShapeError>(!__builtin_mul_overflow(n, d, &n), "tensor: shape {} overflows", shape);
  }
  return n;
}

std::string to_string(const Shape& shape) { return fmt::format("{}", shape); }

// ---- making ------------------------------------------------------------------------------------

Tensor Tensor::empty(Shape shape, TensorOptions options) {
  check<TypeError>(options.device == Device::cpu || options.dtype != DType::f64,
                   "tensor: float64 lives on the cpu only, {} was asked for", name(options.device));
  auto impl = std::make_shared<Impl>();
  impl->numel = stillpoint::numel(shape);
  int64_t bytes = 0;
  check<ShapeError>(!__builtin_mul_overflow(impl->numel, size_of(options.dtype), &bytes),
                    "tensor: the bytes of shape {} overflow", shape);
  impl->shape = std::move(shape);
  impl->options = options;
  impl->block = allocate(bytes, options.device);
  return AutogradAccess::wrap(std::move(impl));
}

Tensor Tensor::full(Shape shape, double value, TensorOptions options) {
  Tensor t = empty(std::move(shape), options);
  t.fill(value);
  return t;
}

Tensor Tensor::zeros(Shape shape, TensorOptions options) {
  return full(std::move(shape), 0.0, options);
}

template <class T>
Tensor Tensor::from(const std::vector<T>& values, Shape shape) {
  Tensor t = empty(std::move(shape), {.dtype = dtype_of<T>});
  check<ShapeError>(t.numel() == static_cast<int64_t>(values.size()),
                    "tensor: {} values were given for shape {}", values.size(), t.shape());
  std::copy(values.begin(), values.end(), t.mutable_data<T>());
  return t;
}

// ---- looking -----------------------------------------------------------------------------------

const Shape& Tensor::shape() const {
  check<ShapeError>(defined(), "tensor: an undefined tensor has no shape");
  return impl_->shape;
}
int Tensor::rank() const { return static_cast<int>(shape().size()); }
int64_t Tensor::dim(int i) const {
  const int r = rank();
  check<ShapeError>(i >= -r && i < r, "tensor: dimension {} of shape {} was asked for", i, shape());
  return impl_->shape[static_cast<size_t>(i < 0 ? i + r : i)];
}
int64_t Tensor::numel() const {
  check<ShapeError>(defined(), "tensor: an undefined tensor has no elements");
  return impl_->numel;
}
DType Tensor::dtype() const {
  check<TypeError>(defined(), "tensor: an undefined tensor has no dtype");
  return impl_->options.dtype;
}
Device Tensor::device() const {
  check<TypeError>(defined(), "tensor: an undefined tensor has no device");
  return impl_->options.device;
}

template <class T>
const T* Tensor::data() const {
  check<TypeError>(dtype() == dtype_of<T>, "tensor: elements are {}, {} was asked for",
                   name(dtype()), name(dtype_of<T>));
  return static_cast<const T*>(impl_->block.get()) + impl_->offset;
}
template <class T>
T* Tensor::mutable_data() {
  return const_cast<T*>(data<T>());
}

template <class T>
std::vector<T> Tensor::to_vector() const {
  std::vector<T> values(static_cast<size_t>(numel()));
  const T* source = data<T>();
  if (device() == Device::cuda) {
    cuda::copy_to_host(values.data(), source, bytes());
  } else {
    std::copy_n(source, numel(), values.data());
  }
  return values;
}

double Tensor::item() const {
  check<ShapeError>(numel() == 1, "tensor: item() wants one element, shape {} has {}", shape(),
                    numel());
  if (dtype() == DType::f64) return to_vector<double>()[0];
  if (dtype() == DType::i32) return to_vector<int32_t>()[0];
  return to_vector<float>()[0];
}

// ---- copying -----------------------------------------------------------------------------------

void Tensor::assign(const Tensor& source) {
  check_dtype(source, dtype(), "tensor", "assigned value");
  check_shape(source, shape(), "tensor", "assigned value");
  const auto address = [](const Tensor& t) -> char* {
    return static_cast<char*>(t.impl_->block.get()) + t.impl_->offset * size_of(t.dtype());
  };
  if (numel() == 0) return;
  if (device() == Device::cpu && source.device() == Device::cpu) {
    std::memcpy(address(*this), address(source), static_cast<size_t>(bytes()));
  } else if (device() == Device::cpu) {
    cuda::copy_to_host(address(*this), address(source), bytes());
  } else if (source.device() == Device::cpu) {
    cuda::copy_to_device(address(*this), address(source), bytes());
  } else {
    cuda::copy_on_device(address(*this), address(source), bytes());
  }
}

Tensor Tensor::clone() const {
  Tensor t = empty(shape(), options());
  t.assign(*this);
  return t;
}

Tensor Tensor::to(Device device) const {
  if (device == this->device()) return *this;
  Tensor t = empty(shape(), {dtype(), device});
  t.assign(*this);
  return t;
}

Tensor Tensor::to(DType dtype) const {
  if (dtype == this->dtype()) return *this;
  if (device() == Device::cuda) return to(Device::cpu).to(dtype).to(Device::cuda);
  Tensor t = empty(shape(), {dtype, Device::cpu});
  const auto convert = [&]<class From, class To>(From, To) {
    std::transform(data<From>(), data<From>() + numel(), t.mutable_data<To>(),
                   [](From v) { return static_cast<To>(v); });
  };
  const auto from = [&](auto f) {
    if (dtype == DType::f64) return convert(f, double{});
    if (dtype == DType::i32) return convert(f, int32_t{});
    return convert(f, float{});
  };
  if (this->dtype() == DType::f64) {
    from(double{});
  } else if (this->dtype() == DType::i32) {
    from(int32_t{});
  } else {
    from(float{});
  }
  return t;
}

Tensor Tensor::alias(Shape shape, int64_t offset) const {
  const int64_t n = stillpoint::numel(shape);
  check<ShapeError>(offset >= 0 && n <= numel() && offset <= numel() - n,
                    "tensor: a view {} at element {} does not fit in {}", shape, offset,
                    this->shape());
  auto impl = std::make_shared<Impl>();
  impl->block = impl_->block;
  impl->offset = impl_->offset + offset;
  impl->shape = std::move(shape);
  impl->numel = n;
  impl->options = impl_->options;
  return AutogradAccess::wrap(std::move(impl));
}

void Tensor::fill(double value) {
  if (numel() == 0) return;
  if (device() == Device::cuda) {
    const uint32_t bits = dtype() == DType::i32
                              ? std::bit_cast<uint32_t>(static_cast<int32_t>(value))
                              : std::bit_cast<uint32_t>(static_cast<float>(value));
    cuda::fill_words(static_cast<uint32_t*>(impl_->block.get()) + impl_->offset, bits, numel());
    return;
  }
  if (dtype() == DType::f64) {
    std::fill_n(mutable_data<double>(), numel(), value);
  } else if (dtype() == DType::i32) {
    std::fill_n(mutable_data<int32_t>(), numel(), static_cast<int32_t>(value));
  } else {
    std::fill_n(mutable_data<float>(), numel(), static_cast<float>(value));
  }
}

// ---- autograd ----------------------------------------------------------------------------------

bool Tensor::requires_grad() const {
  if (!defined()) return false;
  const uint64_t since = autograd::requires_grad_since();
  return impl_->node ? impl_->node->id >= since
                     : impl_->leaf_requires_grad && impl_->leaf_since >= since;
}
Tensor& Tensor::set_requires_grad(bool value) {
  check<GradientError>(defined(), "tensor: an undefined tensor has no gradient");
  check<GradientError>(impl_->node == nullptr,
                       "tensor: requires_grad can be set on leaves only; use detach() first");
  check<GradientError>(dtype() != DType::i32, "tensor: int32 tensors have no gradient");
  impl_->leaf_requires_grad = value;
  impl_->leaf_since = autograd::next_node_id();
  return *this;
}
Tensor Tensor::grad() const {
  check<GradientError>(defined(), "tensor: an undefined tensor has no gradient");
  return impl_->gradient;
}
void Tensor::set_grad(Tensor gradient) {
  check<GradientError>(defined(), "tensor: an undefined tensor has no gradient");
  impl_->gradient = std::move(gradient);
}
Tensor Tensor::detach() const { return alias(shape()); }

// ---- checks ------------------------------------------------------------------------------------

void check_dtype(const Tensor& t, DType wanted, const char* op, const char* what) {
  check<TypeError>(t.defined(), "{}: {} is undefined", op, what);
  check<TypeError>(t.dtype() == wanted, "{}: {} is {}, wanted {}", op, what, name(t.dtype()),
                   name(wanted));
}
void check_floating(const Tensor& t, const char* op, const char* what) {
  check<TypeError>(t.defined(), "{}: {} is undefined", op, what);
  check<TypeError>(t.dtype() != DType::i32, "{}: {} is i32, wanted f32 or f64", op, what);
}
void check_shape(const Tensor& t, const Shape& wanted, const char* op, const char* what) {
  check<TypeError>(t.defined(), "{}: {} is undefined", op, what);
  check<ShapeError>(t.shape() == wanted, "{}: {} has shape {}, wanted {}", op, what, t.shape(),
                    wanted);
}
void check_like(const Tensor& t, const Tensor& like, const char* op, const char* what) {
  check<TypeError>(t.defined(), "{}: {} is undefined", op, what);
  check<TypeError>(t.dtype() == like.dtype() && t.device() == like.device(),
                   "{}: {} is {} on {}, the other input is {} on {}", op, what, name(t.dtype()),
                   name(t.device()), name(like.dtype()), name(like.device()));
}

#define STILLPOINT_INSTANTIATE(T)                                \
  template Tensor Tensor::from<T>(const std::vector<T>&, Shape); \
  template const T* Tensor::data<T>() const;                     \
  template T* Tensor::mutable_data<T>();                         \
  template std::vector<T> Tensor::to_vector<T>() const;
STILLPOINT_INSTANTIATE(float)
STILLPOINT_INSTANTIATE(double)
STILLPOINT_INSTANTIATE(int32_t)
#undef STILLPOINT_INSTANTIATE

}  // namespace stillpoint

fmt::appender fmt::formatter<stillpoint::Shape>::format(const stillpoint::Shape& shape,
                                                        fmt::format_context& context) const {
  return fmt::format_to(context.out(), "[{}]", fmt::join(shape, ", "));
}
