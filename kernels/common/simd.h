// Reading aid and guard rail for the SIMD files (*_cpu.cpp): which instruction set they run with.
//
// A SIMD file is compiled once per instruction set (Google Highway, foreach_target.h) and picks one
// at run time. The vector code works on whole vectors; the end of a row is one more, whose lanes
// past the end are masked, so that every element goes through the same operations and results do
// not depend on where a row ends.
#pragma once

#include <string>
#include <vector>

namespace stillpoint::kernels {

// The instruction sets this build has code for and this machine can run, best first, in Highway's
// names ("AVX3" is AVX-512). The environment variable STILLPOINT_ISA names the best one to use.
std::vector<std::string> available_isas();
std::string active_isa();
// The value of STILLPOINT_ISA if it names no instruction set that is available; else empty.
std::string ignored_isa();
// Uses nothing better than `isa` from now on; an empty name returns to the best one available.
// Returns false, changing nothing, if `isa` is not available. Not to be called while kernels run.
bool force_isa(const std::string& isa);

}  // namespace stillpoint::kernels
