#include "kernels/concat/concat.h"

#include "engine/dispatch.h"
#include "engine/ops.h"
#include "kernels/concat/concat_reference.h"

namespace stillpoint::ops {
namespace {

// A block of columns of the last dimension.
struct Block {
  int64_t begin, length;
};

// Copies `length` columns of `from`, starting at `from_column`, into those of `to`.
void copy_columns(const Tensor& from, int64_t from_column, Tensor& to, int64_t to_column,
                  int64_t length) {
  const int64_t from_stride = from.dim(-1), to_stride = to.dim(-1);
  const int64_t rows = from_stride == 0 ? 0 : from.numel() / from_stride;
  STILLPOINT_DISPATCH(copy_columns, from, ([&]<class T>() {
                        return kernels::CopyColumnsArgs<T>{.from = from.data<T>() + from_column,
                                                           .to = to.mutable_data<T>() + to_column,
                                                           .rows = rows,
                                                           .columns = length,
                                                           .from_stride = from_stride,
                                                           .to_stride = to_stride};
                      }));
}

Shape with_last(Shape shape, int64_t last) {
  shape.back() = last;
  return shape;
}

// x as the columns from `begin` on of zeros [..., total]: the transpose of columns().
Tensor place_columns(const Tensor& x, int64_t begin, int64_t total) {
  Tensor out = Tensor::zeros(with_last(x.shape(), total), x.options());
  copy_columns(x, 0, out, begin, x.dim(-1));
  return record("columns_backward", {x}, out, [begin, n = x.dim(-1)](const Tensor& g) -> Gradients {
    return {columns(g, begin, n)};
  });
}

}  // namespace

Tensor concat(const std::vector<Tensor>& parts) {
  check<ShapeError>(!parts.empty(), "concat: there are no parts");
  const Tensor& first = parts[0];
  check_floating(first, "concat", "part 0");
  check<ShapeError>(first.rank() > 0, "concat: part 0 has no dimension to concatenate along");
  int64_t total = 0;
  for (const Tensor& part : parts) {
    check_like(part, first, "concat", "part");
    check<ShapeError>(
        part.rank() == first.rank() && with_last(part.shape(), 0) == with_last(first.shape(), 0),
        "concat: a part has shape {}, the first has {}; wanted the same but for the "
        "last dimension",
        part.shape(), first.shape());
    total += part.dim(-1);
  }
  Tensor out = Tensor::empty(with_last(first.shape(), total), first.options());
  std::vector<Block> blocks;
  int64_t begin = 0;
  for (const Tensor& part : parts) {
    copy_columns(part, 0, out, begin, part.dim(-1));
    blocks.push_back({begin, part.requires_grad() ? part.dim(-1) : -1});
    begin += part.dim(-1);
  }
  return record_many("concat", parts, {out}, [blocks](std::span<const Tensor> g) {
    Gradients gradients;
    for (const Block& b : blocks)
      gradients.push_back(b.length < 0 ? Tensor() : columns(g[0], b.begin, b.length));
    return gradients;
  })[0];
}

Tensor columns(const Tensor& x, int64_t begin, int64_t length) {
  check_floating(x, "columns", "x");
  check<ShapeError>(x.rank() > 0, "columns: x has no dimension to take columns of");
  check<ShapeError>(begin >= 0 && length >= 0 && length <= x.dim(-1) && begin <= x.dim(-1) - length,
                    "columns: [{}, {} + {}) of shape {}", begin, begin, length, x.shape());
  Tensor out = Tensor::empty(with_last(x.shape(), length), x.options());
  copy_columns(x, begin, out, 0, length);
  return record("columns", {x}, out, [begin, total = x.dim(-1)](const Tensor& g) -> Gradients {
    return {place_columns(g, begin, total)};
  });
}

}  // namespace stillpoint::ops
