// Kernels with one bug each, and correct ones beside them: what the emulation's checks must find,
// and what they must leave alone.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "kernels/common/status.h"
#include "kernels/common/stream.h"

// Launches the kernel of that name. `x` and `y` are device arrays of kPlantedSize floats. The file
// is compiled twice: as all kernels are, and instrumented for the race check.
inline constexpr int kPlantedSize = 1024;
namespace planted {
stillpoint::kernels::Status run(std::string_view kernel, float* x, float* y,
                                stillpoint::kernels::Stream stream);
// The same, with a condition that the kernel sets: "counts_down" takes 1 from x[0], adds 1 to y[0]
// and asks for another iteration while x[0] is positive.
stillpoint::kernels::Status run_in_loop(std::string_view kernel, unsigned long long condition,
                                        float* x, float* y, stillpoint::kernels::Stream stream);
stillpoint::kernels::Status launch_empty(unsigned grid, unsigned block, size_t shared_bytes,
                                         stillpoint::kernels::Stream stream);
size_t index_bytes(int64_t elements);  // of the Index that with_index() takes for them
}  // namespace planted
namespace planted_watched {
stillpoint::kernels::Status run(std::string_view kernel, float* x, float* y,
                                stillpoint::kernels::Stream stream);
}
