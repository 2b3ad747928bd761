// Boards that go through a training step in slices, whose gradients add up in the slices' order.
#pragma once

#include <cstdint>
#include <functional>

#include "engine/device.h"

namespace stillpoint::sudoku {

using AfterSlice = std::function<void()>;

// Calls learn(begin, size) for the slices [0, slice), [slice, 2 slice), ... of some boards; slice
// is 1 or more. What it returns is called behind it, one at a time in the order of the slices, and
// may touch what they share: so the result does not depend on the number of threads. The first
// exception, by that order, is thrown again, and what slices behind it returned is not called.
//
// On the CPU slices go side by side, each on one thread, unless fewer threads would be busy so than
// with the boards of a slice at a time. Memory is that of as many slices as there are threads, and
// of what was returned and waits for a slice before it.
void for_slices(int64_t boards, int64_t slice, Device device,
                const std::function<AfterSlice(int64_t begin, int64_t size)>& learn);

}  // namespace stillpoint::sudoku
