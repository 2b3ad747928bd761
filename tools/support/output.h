// Where a program writes.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace stillpoint::tools {

// The file that an option names, with links followed, for io::AtomicFile to replace. Throws IoError
// if something is there that is not a file: a folder, a device, a pipe.
std::filesystem::path output_file(const std::string& option, const std::string& given);

// Writes to the standard output and flushes it. Throws IoError, on a full disk for instance.
void write_out(std::string_view text);

}  // namespace stillpoint::tools
