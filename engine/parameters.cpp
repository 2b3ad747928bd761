#include "engine/parameters.h"

namespace stillpoint {

void assign_tensors(const NamedTensors& to, const NamedTensors& from) {
  for (const auto& [name, t] : to) {
    const auto found = from.find(name);
    check<FormatError>(found != from.end(), "load: there is no tensor {}, wanted one of shape {}",
                       name, t.shape());
    check_dtype(found->second, t.dtype(), "load", name.c_str());
    check_shape(found->second, t.shape(), "load", name.c_str());
  }
  for (auto [name, t] : to) t.assign(from.at(name));
}

void assign_all_tensors(const NamedTensors& to, const NamedTensors& from) {
  for (const auto& [name, t] : from)
    check<FormatError>(to.contains(name), "load: a tensor {}; wanted none of this name", name);
  assign_tensors(to, from);
}

}  // namespace stillpoint
