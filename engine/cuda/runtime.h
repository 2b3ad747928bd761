// The engine's side of CUDA: one stream and one set of library handles per process, copies, and
// failed calls turned into exceptions. In a build without CUDA every function but
// device_available() throws DeviceError.
#pragma once

#include <cstdint>
#include <string>

#include "kernels/common/status.h"
#include "kernels/common/stream.h"

struct cublasContext;    // what cublasHandle_t points to
struct cusparseContext;  // what cusparseHandle_t points to

namespace stillpoint::cuda {

bool device_available();
// "NVIDIA H100, compute 9.0", "emulated on the host", or "none".
std::string device_name();

// The stream that all engine work is put on.
kernels::Stream stream();
// The libraries' state, bound to the stream; made on first use. cuBLAS has a fixed workspace, with
// which it repeats itself bit for bit.
cublasContext* cublas_handle();
cusparseContext* cusparse_handle();
void synchronize();
// Whether work put on the stream becomes part of a graph instead of running.
bool capturing();

void* allocate(int64_t bytes);
void free(void* p);
// Tell the emulated driver which part of an allocation is in use, from the stream's turn on; a real
// device is told nothing.
void take_block(void* p, int64_t bytes, int64_t capacity);
void return_block(void* p, int64_t capacity) noexcept;
// Copies wait for all queued work before and until they are done themselves.
void copy_to_device(void* device, const void* host, int64_t bytes);
void copy_to_host(void* host, const void* device, int64_t bytes);
// Stream-ordered, asynchronous.
void copy_on_device(void* to, const void* from, int64_t bytes);
void fill_words(void* device, uint32_t value, int64_t count);

// Throws DeviceError, naming the op, the failed call and the library's own word for it, unless the
// status is ok.
void check_status(const kernels::Status& status, const char* op);

}  // namespace stillpoint::cuda
