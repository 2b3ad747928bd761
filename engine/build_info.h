// What this library was built from and with, and on what it runs: for bug reports, checkpoints and
// benchmark tables.
#pragma once

#include <string>
#include <vector>

namespace stillpoint {

struct LibraryVersion {
  std::string name;
  std::string version;  // of the library in use where it can be asked, else of its headers
};

struct BuildInfo {
  std::string version;   // of stillpoint
  std::string compiler;  // nvcc too, where it compiled the kernels
  std::string build_type;
  std::string flags;
  std::string options;  // the STILLPOINT_ options of CMake
  std::vector<LibraryVersion> libraries;
};

BuildInfo build_info();

// What Linux calls the processor; "unknown" where it has no name for it.
std::string processor_name();

}  // namespace stillpoint
