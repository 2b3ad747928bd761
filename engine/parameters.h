// Finding the tensors of a module: the one reflection, which optimisers, checkpoints, device moves
// and counting share. A module is any struct that shows its members to a visitor:
//
//   struct Step {
//     nn::Linear self, other;
//     std::vector<nn::Linear> tower;
//     Tensor temperature;
//     void visit(auto&& v) {
//       v("self", self); v("other", other); v("tower", tower); v("temperature", temperature);
//     }
//   };
//
// Members are tensors, modules, and vectors or arrays of either. Names join with dots
// ("self.weight", "tower.0.bias"); undefined tensors (a bias that is not there) are passed over.
#pragma once

#include <cstdint>
#include <iterator>
#include <map>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "engine/tensor.h"

namespace stillpoint {

using NamedTensors = std::map<std::string, Tensor>;

namespace detail {

template <class F>
struct TensorVisitor {
  F& f;
  std::string prefix;  // empty, or with a dot at its end

  template <class Member>
  void operator()(std::string_view member_name, Member& member) const {
    const std::string name = prefix + std::string(member_name);
    if constexpr (std::is_same_v<Member, Tensor>) {
      if (member.defined()) f(name, member);
    } else if constexpr (requires { std::begin(member); }) {
      size_t index = 0;
      for (auto& element : member) TensorVisitor{f, name + "."}(std::to_string(index++), element);
    } else {
      member.visit(TensorVisitor{f, name + "."});
    }
  }
};

}  // namespace detail

// Calls f(name, tensor) for every defined tensor in `module`, by reference, in the order of its
// visits.
template <class Module, class F>
void visit_tensors(Module& module, F&& f) {
  module.visit(detail::TensorVisitor<std::remove_reference_t<F>>{f, ""});
}

// Every tensor by name: what a checkpoint holds. Throws OptionError if two have the same name.
template <class Module>
NamedTensors tensors(Module& module) {
  NamedTensors all;
  visit_tensors(module, [&all](const std::string& name, Tensor& t) {
    check<OptionError>(all.try_emplace(name, t).second, "visit: two tensors are named {}", name);
  });
  return all;
}

// Those that require a gradient: what an optimiser trains.
template <class Module>
NamedTensors parameters(Module& module) {
  NamedTensors all = tensors(module);
  std::erase_if(all, [](const auto& entry) { return !entry.second.requires_grad(); });
  return all;
}

// The number of elements in all parameters.
template <class Module>
int64_t count_parameters(Module& module) {
  int64_t count = 0;
  for (const auto& [name, t] : parameters(module)) count += t.numel();
  return count;
}

// Moves every tensor. They become fresh leaves: move first, then give them to an optimiser.
template <class Module>
void to_device(Module& module, Device device) {
  visit_tensors(module, [device](const std::string&, Tensor& t) {
    if (t.device() == device) return;
    Tensor moved = t.to(device);
    if (t.requires_grad()) moved.set_requires_grad();
    t = std::move(moved);
  });
}

// Overwrites every tensor of `module` with the one of the same name in `from`, which may be on
// another device and hold more. Throws FormatError on a name that is missing, ShapeError or
// TypeError on one that does not fit; then the module has not changed.
void assign_tensors(const NamedTensors& to, const NamedTensors& from);
// The same, and `from` must have no others.
void assign_all_tensors(const NamedTensors& to, const NamedTensors& from);
template <class Module>
void load_tensors(Module& module, const NamedTensors& from) {
  assign_tensors(tensors(module), from);
}

}  // namespace stillpoint
