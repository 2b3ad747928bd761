// What this library was built from and with: for bug reports, checkpoints and benchmark tables.
#pragma once

#include <string>
#include <vector>

namespace stillpoint {

struct LibraryVersion {
  std::string name;
  std::string version;  // of the library in use where it can be asked, else of its headers
};

struct BuildInfo {
  std::string version;  // of stillpoint
  std::string compiler;
  std::string build_type;
  std::string flags;
  std::string options;  // the STILLPOINT_ options of CMake
  std::vector<LibraryVersion> libraries;
};

BuildInfo build_info();

}  // namespace stillpoint
