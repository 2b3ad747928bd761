// Time and caches of one device.
#pragma once

#include <functional>

#include "engine/device.h"

namespace stillpoint::bench {

// Seconds that `calls` calls take together, on the device's own clock.
double seconds(Device device, int64_t calls, const std::function<void()>& call);

// Overwrites more memory than the device's last-level cache holds.
void empty_caches(Device device);

// Devices worth timing: emulated CUDA is not among them.
bool timeable(Device device);

}  // namespace stillpoint::bench
