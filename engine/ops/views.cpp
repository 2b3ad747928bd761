// Other names for the same elements, and copies between devices: no kernels of their own.
#include <algorithm>

#include "engine/ops.h"

namespace stillpoint::ops {
namespace {

// Rows [begin, begin + x.dim(0)) of zeros of `shape` are x: the transpose of rows().
Tensor place_rows(const Tensor& x, int64_t begin, const Shape& shape) {
  Tensor out = Tensor::zeros(shape, x.options());
  if (x.numel() > 0) {
    Tensor window = out.alias(x.shape(), begin * (x.numel() / x.dim(0)));
    window.assign(x);
  }
  return record("rows_backward", {x}, out,
                [begin, length = x.dim(0)](const Tensor& g) -> Gradients {
                  return {rows(g, begin, length)};
                });
}

}  // namespace

Tensor reshape(const Tensor& x, Shape shape) {
  const auto unknown = std::find(shape.begin(), shape.end(), -1);
  const Shape asked = shape;
  if (unknown != shape.end()) {
    *unknown = 1;
    const int64_t known = numel(shape);
    check<ShapeError>(known > 0 && x.numel() % known == 0,
                      "reshape: {} elements of shape {} do not fill {}", x.numel(), x.shape(),
                      asked);
    *unknown = x.numel() / known;
  }
  check<ShapeError>(numel(shape) == x.numel(), "reshape: {} elements of shape {} do not fill {}",
                    x.numel(), x.shape(), asked);
  return record(
      "reshape", {x}, x.alias(std::move(shape)),
      [before = x.shape()](const Tensor& g) -> Gradients { return {reshape(g, before)}; });
}

Tensor rows(const Tensor& x, int64_t begin, int64_t length) {
  check<ShapeError>(x.rank() > 0, "rows: x has no dimension to take rows of");
  check<ShapeError>(begin >= 0 && length >= 0 && length <= x.dim(0) && begin <= x.dim(0) - length,
                    "rows: [{}, {} + {}) of shape {}", begin, begin, length, x.shape());
  if (length == x.dim(0)) return x;
  Shape shape = x.shape();
  shape[0] = length;
  const int64_t row = x.dim(0) == 0 ? 0 : x.numel() / x.dim(0);
  return record("rows", {x}, x.alias(std::move(shape), begin * row),
                [begin, before = x.shape()](const Tensor& g) -> Gradients {
                  return {place_rows(g, begin, before)};
                });
}

Tensor to(const Tensor& x, Device device) {
  return record("to", {x}, x.to(device),
                [from = x.device()](const Tensor& g) -> Gradients { return {to(g, from)}; });
}

}  // namespace stillpoint::ops
