// What a CUDA launcher reports. Kernels neither throw nor print; the engine turns a failed Status
// into an exception.
#pragma once

namespace stillpoint::kernels {

struct [[nodiscard]] Status {
  enum class Source { cuda, cublas, cusparse };

  int code = 0;                  // 0 is success in all three libraries
  Source source = Source::cuda;  // whose error code it is
  const char* call = "";         // the kernel or library call that failed

  bool ok() const { return code == 0; }
};

}  // namespace stillpoint::kernels
