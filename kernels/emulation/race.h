// The race check. A .cu file compiled with -fsanitize=thread calls a function before every read and
// write of memory; here these functions keep, for each four bytes of shared and device memory, who
// touched it last, and report two accesses that nothing orders. On the way they see what is read
// before it is written and what lies outside every array.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace stillpoint::emulation {

enum class Access { read, write, atomic };
enum class Memory { unusable, uninitialised, initialised };

// Whether any instrumented code is part of the program; all else here is idle otherwise.
bool race_check();

void race_begin_launch();
void race_begin_block();
void race_barrier();                           // the whole block is ordered
void race_sync_warp(int warp, unsigned mask);  // the lanes in `mask` are

void race_access(const void* address, size_t bytes, Access access, const void* caller);

// From now on memory is what is said here; what happened to it before is forgotten.
void race_mark(const void* address, size_t bytes, Memory state);
// The same for a copy, which makes `to` as initialised as `from` is, or for a fill if `from` is
// nullptr or host memory. Empty, or what of the two is out of bounds.
std::string race_copy(const void* to, const void* from, size_t bytes);

}  // namespace stillpoint::emulation
