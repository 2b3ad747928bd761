#include "engine/implicit/application.h"

#include <utility>

namespace stillpoint::implicit {

namespace {

Segment apply(const Map& f, const Tensor& z, std::vector<Tensor> inputs, autograd::Captured mode) {
  inputs.insert(inputs.begin(), z);
  Segment tape = autograd::apply_on_tape(
      [&](std::span<const Tensor> in) { return f(in[0], in.subspan(1)); }, std::move(inputs), mode);
  check_shape(tape.output, z.shape(), "fixed_point", "f(z)");
  check_like(tape.output, z, "fixed_point", "f(z)");
  return tape;
}

}  // namespace

Segment application_at(const Map& f, const Tensor& z, const std::vector<Tensor>& inputs) {
  return apply(f, z.detach(), autograd::fresh_leaves(inputs), autograd::Captured::differentiated);
}

Segment jacobian_at(const Map& f, const Tensor& z, const std::vector<Tensor>& inputs) {
  std::vector<Tensor> constant;
  for (const Tensor& t : inputs) constant.push_back(t.detach());
  return apply(f, z.detach().set_requires_grad(), std::move(constant),
               autograd::Captured::constant);
}

Tensor transposed(const Segment& jacobian, const Tensor& v) {
  return autograd::segment_vjp(jacobian, {jacobian.inputs[0]}, v, {.retain_graph = true})[0];
}

}  // namespace stillpoint::implicit
