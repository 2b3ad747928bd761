// .cu files are compiled with -fsanitize=alignment,bounds. These are the functions that such code
// calls when a check fails, in place of the sanitizer's own, so that a misaligned vector access and
// an index past a shared array end the launch with an error that names them.
// Not part of builds under -fsanitize=undefined, which brings these functions itself.
#include <cstdint>
#include <cstring>
#include <string>

#include "kernels/emulation/block.h"

namespace {

struct Place {
  const char* file;
  uint32_t line, column;
};
struct Type {
  uint16_t kind, info;
  char name[1];  // in quotes
};
struct Mismatch {
  Place place;
  const Type* type;
  unsigned char log_alignment, kind;
};
struct OutOfBounds {
  Place place;
  const Type *array, *index;
};

using namespace stillpoint::emulation;

template <class Detail>
void found(cudaError_t code, const char* check, const Place& place, Detail detail) {
  const auto where = [&] {
    const char* slash = std::strrchr(place.file, '/');
    return " at " + std::string(slash ? slash + 1 : place.file) + ":" + std::to_string(place.line) +
           ": " + detail();
  };
  if (running_on_device()) fail(code, check, [&] { return describe(*block.current) + where(); });
  report_failure(code, std::string(check) + " in host code" + where());
}

}  // namespace

extern "C" {

void __ubsan_handle_type_mismatch_v1(const Mismatch* data, void* address) {
  const auto alignment = uintptr_t{1} << data->log_alignment;
  const auto value = reinterpret_cast<uintptr_t>(address);
  found(cudaErrorMisalignedAddress, "misaligned address", data->place, [&] {
    return data->type->name + (" wants " + std::to_string(alignment)) +
           " bytes alignment, the address is " + std::to_string(value % alignment) + " past it";
  });
}

void __ubsan_handle_out_of_bounds(const OutOfBounds* data, void* index) {
  found(cudaErrorIllegalAddress, "index out of bounds", data->place, [&] {
    return "index " + std::to_string(reinterpret_cast<intptr_t>(index)) + " of " +
           data->array->name;
  });
}
}
