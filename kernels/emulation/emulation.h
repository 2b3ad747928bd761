// CUDA without a GPU: what tests may ask of the emulated device. docs/emulation.md explains it.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

namespace stillpoint::emulation {

struct Counters {
  int64_t launches = 0;         // kernels that ran
  int64_t blocks = 0;           // and their blocks
  int64_t threads = 0;          // and their threads
  int64_t barriers = 0;         // __syncthreads, once per block and barrier
  int64_t warp_operations = 0;  // shuffles, votes, __syncwarp: once per warp
  int64_t fiber_switches = 0;
  int64_t copies = 0;         // cudaMemcpy and cudaMemset
  int64_t library_calls = 0;  // enqueue()
};

// Everything that has run since the last reset().
const Counters& counters();

// The device as after the start of the program, but for allocations, streams and events, which
// stay: pending work and the recorded error are dropped, counters are 0, the seed is taken anew
// from STILLPOINT_EMULATION_SEED (1 if unset), random order is on.
void reset();

// Threads, blocks and streams run in an order drawn from the seed; with random order off they run
// in the order of their numbers.
void set_seed(uint64_t seed);
void set_random_order(bool on);

// How much device memory there is; reset() goes back to 8 GiB.
void set_memory_limit(size_t bytes);

// The first error since reset() in words: which check, kernel, block, thread, source line. Empty if
// there was none. cudaGetErrorString() says the same.
const std::string& last_error_message();

// For an allocator that cuts memory from cudaMalloc into blocks. When the stream's turn comes, the
// block holds NaN, unwritten, and what follows its `bytes` up to `capacity` is a red zone; or,
// given back, all of it is out of bounds.
cudaError_t take_block(cudaStream_t stream, void* block, size_t bytes, size_t capacity);
cudaError_t return_block(cudaStream_t stream, void* block, size_t capacity);

// Puts work done by host code in place of the device (a library's twin) on a stream. It may read
// and write device memory, and runs when the stream's turn comes.
cudaError_t enqueue(cudaStream_t stream, const char* name, std::function<void()> work);

}  // namespace stillpoint::emulation
