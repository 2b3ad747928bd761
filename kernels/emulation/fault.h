// What becomes of a bad address: a kernel's ends the launch with an error, as on a device; host
// code that touches device memory is told so before the process ends.
#pragma once

namespace stillpoint::emulation {

// Watches for faults on the calling operating-system thread; cheap when it does so already.
void watch_faults();

}  // namespace stillpoint::emulation
