// Where a tensor lives and what its elements are.
#pragma once

#include <cstdint>

namespace stillpoint {

enum class Device : uint8_t { cpu, cuda };
enum class DType : uint8_t { f32, f64, i32 };

constexpr const char* name(Device d) { return d == Device::cpu ? "cpu" : "cuda"; }
constexpr const char* name(DType t) {
  return t == DType::f32 ? "f32" : t == DType::f64 ? "f64" : "i32";
}
constexpr int64_t size_of(DType t) { return t == DType::f64 ? 8 : 4; }

template <class T>
inline constexpr DType dtype_of = [] {
  static_assert(sizeof(T) == 0, "tensors hold float, double or int32_t");
  return DType::f32;
}();
template <>
inline constexpr DType dtype_of<float> = DType::f32;
template <>
inline constexpr DType dtype_of<double> = DType::f64;
template <>
inline constexpr DType dtype_of<int32_t> = DType::i32;

// True where this build can use the device: cuda needs a build with STILLPOINT_CUDA=ON or EMULATE,
// and a GPU or the emulation.
bool available(Device device);

}  // namespace stillpoint
