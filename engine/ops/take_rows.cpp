#include "kernels/take_rows/take_rows.h"

#include "engine/dispatch.h"
#include "engine/implicit/solver_state.h"
#include "engine/tensor_impl.h"
#include "kernels/take_rows/take_rows_reference.h"

namespace stillpoint::implicit {
namespace {

void* address_of(const Tensor& t) {
  const Tensor::Impl* impl = AutogradAccess::impl(t);
  return static_cast<char*>(impl->block.get()) + impl->offset * size_of(t.dtype());
}

void check_rows(const Tensor& x, const Tensor& index, const char* op) {
  check_dtype(index, DType::i32, op, "index");
  check<TypeError>(index.device() == x.device(), "{}: the index is on {}, x on {}", op,
                   name(index.device()), name(x.device()));
  check<ShapeError>(index.rank() == 1, "{}: index has shape {}, wanted [rows]", op, index.shape());
  check<ShapeError>(x.rank() >= 1, "{}: x has no dimension to take rows of", op);
}

// 4-byte words in a row of x.
int64_t words_of(const Tensor& x) {
  return numel({x.shape().begin() + 1, x.shape().end()}) * (size_of(x.dtype()) / 4);
}

kernels::MoveRowsArgs make_args(const Tensor& from, const Tensor& to, const Tensor& index) {
  return {.from = address_of(from),
          .to = address_of(to),
          .index = index.data<int32_t>(),
          .count = index.numel(),
          .words = words_of(from)};
}

}  // namespace

Tensor take_rows(const Tensor& x, const Tensor& index) {
  check_rows(x, index, "take_rows");
  Shape shape = x.shape();
  shape[0] = index.numel();
  Tensor out = Tensor::empty(std::move(shape), x.options());
  STILLPOINT_DISPATCH(take_rows, x, ([&]<class T>() { return make_args(x, out, index); }));
  return out;
}

void put_rows(const Tensor& x, const Tensor& index, Tensor& into) {
  check_rows(x, index, "put_rows");
  check_like(into, x, "put_rows", "the target");
  Shape shape = x.shape();
  shape[0] = into.dim(0);
  check_shape(into, shape, "put_rows", "the target");
  check<ShapeError>(x.dim(0) == index.numel(), "put_rows: {} rows and {} places for them", x.dim(0),
                    index.numel());
  STILLPOINT_DISPATCH(put_rows, x, ([&]<class T>() { return make_args(x, into, index); }));
}

}  // namespace stillpoint::implicit
