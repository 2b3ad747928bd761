// What a .cu file and the host code beside it include. Under nvcc this name is the toolkit's; in
// the emulation it is this file, and a CUDA thread is a fiber.
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/emulation/device_atomics.h"
#include "kernels/emulation/device_intrinsics.h"
#include "kernels/emulation/device_threads.h"
#include "kernels/emulation/device_types.h"

template <class T>
cudaError_t cudaMalloc(T** pointer, size_t bytes) {
  return cudaMalloc(reinterpret_cast<void**>(pointer), bytes);
}

template <class T>
cudaError_t cudaMallocHost(T** pointer, size_t bytes, unsigned = 0) {
  return cudaMallocHost(reinterpret_cast<void**>(pointer), bytes);
}

template <class T>
cudaError_t cudaFuncSetAttribute(T* kernel, cudaFuncAttribute attribute, int value) {
  return cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), attribute, value);
}
