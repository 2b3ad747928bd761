// Any bytes at all are read as a checkpoint or refused with an Error, and never make a tensor that
// they do not hold.
#include <cstdlib>
#include <sstream>

#include "engine/error.h"
#include "engine/io/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::istringstream stream(std::string(reinterpret_cast<const char*>(data), size));
  try {
    const auto file = stillpoint::io::read_safetensors(stream, "fuzz");
    int64_t bytes = 0;
    for (const auto& [name, t] : file.tensors) bytes += t.bytes();
    if (bytes > static_cast<int64_t>(size)) std::abort();
  } catch (const stillpoint::Error&) {
  }
  return 0;
}
