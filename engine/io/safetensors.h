// Named tensors in a file, in the safetensors format of Hugging Face, which Python, Rust and
// JavaScript read as well.
//
//   8 bytes            n, the length of the header, unsigned, little-endian
//   n bytes            JSON: {"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
//                      ..., "__metadata__": {"key": "text"}}, padded with spaces
//   the rest           the elements, row-major, little-endian; data_offsets count from here
//
// Files are taken to be hostile: a reader believes no number in them before it has been checked
// against the size of the file, so that a broken or forged one costs an exception, not memory.
// Source: https://github.com/huggingface/safetensors, "Format".
#pragma once

#include <cstdint>
#include <filesystem>
#include <iosfwd>
#include <map>
#include <string>

#include "engine/tensor.h"

namespace stillpoint::io {

using NamedTensors = std::map<std::string, Tensor>;
using Metadata = std::map<std::string, std::string>;

struct Safetensors {
  NamedTensors tensors;  // on the CPU
  Metadata metadata;
};

// Longer headers are refused: 16 MiB describe more than 100,000 tensors.
inline constexpr uint64_t kMaxSafetensorsHeader = uint64_t{16} << 20;

// Replaces the file at `path` in one step: at every moment, a crash or a full disk included, it is
// the old one or the new one, whole. Tensors may live on any device. Throws IoError where the
// system refuses; TypeError on an undefined tensor; FormatError on a name that no file can hold
// ("__metadata__", not UTF-8).
void save_safetensors(const std::filesystem::path& path, const NamedTensors& tensors,
                      const Metadata& metadata = {});

// Reads F32, F64 and I32. Throws IoError where the system refuses, FormatError where the file is
// not what it should be; both name the file, and the latter what is wrong with it.
Safetensors load_safetensors(const std::filesystem::path& path);
// The same from any stream that can seek; `name` stands in the messages.
Safetensors read_safetensors(std::istream& stream, const std::string& name);

}  // namespace stillpoint::io
