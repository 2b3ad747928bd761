// The queue that CUDA work is put on: cudaStream_t under its own name, so that contracts need no
// CUDA header.
#pragma once

struct CUstream_st;

namespace stillpoint::kernels {

using Stream = CUstream_st*;

}  // namespace stillpoint::kernels
