// Reading aid and guard rail for the SIMD files (*_cpu.cpp): which instruction set they run with.
//
// A SIMD file is compiled once per instruction set (Google Highway, foreach_target.h) and picks one
// at run time. The vector code works on whole vectors; what is left over at the end of a row is
// done by the same operations one element at a time, so that results do not depend on where a row
// ends.
#pragma once

#include <string>
#include <vector>

namespace stillpoint::kernels {

// The instruction sets this build has code for and this machine can run, best first, in Highway's
// names ("AVX3" is AVX-512). The environment variable STILLPOINT_ISA names the best one to use.
std::vector<std::string> available_isas();
std::string active_isa();
// Uses nothing better than `isa` from now on; an empty name returns to the best. Returns false,
// changing nothing, if `isa` is not available. Not to be called while kernels run.
bool force_isa(const std::string& isa);

}  // namespace stillpoint::kernels
