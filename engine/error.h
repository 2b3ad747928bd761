// Every failure of the library is an exception of one of these types; only a program's main prints
// it.
#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace stillpoint {

struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};
struct ShapeError : Error {  // sizes that do not fit together
  using Error::Error;
};
struct TypeError : Error {  // dtype or device other than wanted
  using Error::Error;
};
struct OptionError : Error {  // an option outside its range
  using Error::Error;
};
struct GradientError : Error {  // a gradient that cannot be formed
  using Error::Error;
};
struct FormatError : Error {  // a file or text that is not what it should be
  using Error::Error;
};
struct IoError : Error {  // the system refused to read or write
  using Error::Error;
};
struct DeviceError : Error {  // CUDA, cuBLAS or cuSPARSE reported a failure
  using Error::Error;
};

// Throws E with the formatted message unless `condition` holds. Messages name the op, what was
// given and what was wanted.
template <class E, class... Args>
void check(bool condition, fmt::format_string<Args...> message, Args&&... args) {
  if (!condition) [[unlikely]]
    throw E(fmt::format(message, std::forward<Args>(args)...));
}

}  // namespace stillpoint
