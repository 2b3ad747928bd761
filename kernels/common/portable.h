// Marks functions that run on the host and inside CUDA kernels.
#pragma once

#if defined(__CUDACC__)
#define STILLPOINT_HD __host__ __device__
#else
#define STILLPOINT_HD
#endif
