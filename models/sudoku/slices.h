// Boards that go through a training step in slices, whose gradients add up in the slices' order.
#pragma once

#include <cstdint>
#include <functional>

#include "engine/device.h"

namespace stillpoint::sudoku {

// Calls learn(begin, size) for the slices [0, slice), [slice, 2 slice), ... of some boards: on the
// CPU several side by side, each on one thread. What it returns is called behind it, one at a time
// in the order of the slices, and may touch what they share: so the result does not depend on the
// number of threads. The first exception, by that order, is thrown again; nothing of the slices
// behind it is called.
using AfterSlice = std::function<void()>;
void for_slices(int64_t boards, int64_t slice, Device device,
                const std::function<AfterSlice(int64_t begin, int64_t size)>& learn);

}  // namespace stillpoint::sudoku
