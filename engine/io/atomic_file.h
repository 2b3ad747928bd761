// Files that are either the old ones or the new ones, never half of each.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string>

namespace stillpoint::io {

// Writes go to a temporary name beside `path`; commit() syncs it to the disk and gives it its name.
// Until then, and after any failure, whatever was at `path` stays as it was and nothing else is
// left behind. Every refusal of the system throws IoError with the name and the system's own word.
class AtomicFile {
 public:
  explicit AtomicFile(std::filesystem::path path);
  ~AtomicFile();  // drops what was not committed
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(const void* bytes, size_t count);
  void commit();

 private:
  [[noreturn]] void fail(const char* what) const;

  const std::filesystem::path path_;
  const std::string temporary_;
  int descriptor_ = -1;
};

}  // namespace stillpoint::io
