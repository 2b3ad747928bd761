// Marks functions that run on the host and inside CUDA kernels.
#pragma once

#if defined(__CUDACC__)
#define STILLPOINT_HD __host__ __device__
#elif defined(__SANITIZE_THREAD__)  // as g++ compiles kernels for the race check
// The linker keeps one copy of an inline function, and the host's sees no access.
#define STILLPOINT_HD __attribute__((always_inline))
#else
#define STILLPOINT_HD
#endif
