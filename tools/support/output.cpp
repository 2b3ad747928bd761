#include "tools/support/output.h"

#include <cerrno>
#include <cstdio>
#include <system_error>

#include "engine/error.h"

namespace stillpoint::tools {

namespace fs = std::filesystem;

fs::path output_file(const std::string& option, const std::string& given) {
  std::error_code error;  // ignored: what cannot be looked at cannot be opened either
  fs::path file = given;
  if (fs::is_symlink(file, error)) file = fs::weakly_canonical(file, error);
  check<IoError>(!fs::exists(file, error) || fs::is_regular_file(file, error),
                 "{} {}: is there, and not a file; wanted a name for one", option, given);
  return file;
}

void write_out(std::string_view text) {
  bool written = std::fwrite(text.data(), 1, text.size(), stdout) == text.size();
  written = std::fflush(stdout) == 0 && written;
  check<IoError>(written, "standard output: cannot be written: {}",
                 std::generic_category().message(errno));
}

}  // namespace stillpoint::tools
